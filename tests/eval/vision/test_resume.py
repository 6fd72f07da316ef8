"""A vision run killed while a model answers and while a judge judges: nothing is lost, nothing asked twice."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml

from tests.eval.processes import wait_until_gone
from tests.eval.vision.stub_judge import Gate, running

ROOT = Path(__file__).parents[3]
RECORDS = ("generations.jsonl", "scores.jsonl", "judge.jsonl")


def count(path):
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def run_until(config, is_reached=None):
    """Run the command, and kill it when a condition holds; None lets it end.

    The server holds its next answer then, so that no more is recorded however fast this machine is.
    """
    mark = f"DFT_TEST_RUN={time.monotonic_ns()}"
    environment = os.environ | dict([mark.split("=")])
    command = [sys.executable, "-m", "tests.eval.vision.run_small", str(config)]
    log = config.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    while process.poll() is None and (is_reached is None or not is_reached()):
        time.sleep(0.02)
    process.kill()
    process.wait()
    wait_until_gone(mark)  # VLMEvalKit's process too
    assert process.returncode == (0 if is_reached is None else -9), log.read_text()[-3000:]


def is_judge_asked(server):
    """The judge reads text alone, the model an image too."""
    return any(isinstance(body["messages"][-1]["content"], str) for body in server.asked)


@pytest.mark.slow
def test_a_killed_run_ends_with_the_records_of_an_uninterrupted_one(python, evaluate, tmp_path):
    with running() as server:
        settings = {
            "model": "vl",
            "tasks": ["mathverse"],
            "interface": "chat",
            "protocol": "judge",
            "backend": {"kind": "openai", "base_url": server.url, "concurrency": 1},
            "vision": {"judge": {"model": "stub", "base_url": server.url, "concurrency": 1}},
        }
        whole = evaluate(**settings, out=str(tmp_path / "whole"))
        asked = Counter(json.dumps(body, sort_keys=True) for body in server.asked)
        server.asked.clear()
        config = tmp_path / "config.yaml"
        config.write_text(yaml.safe_dump(settings | {"out": str(tmp_path / "killed")}))
        folder = tmp_path / "killed/mathverse"
        generations = folder / "generations.jsonl"
        server.gate = Gate(2)  # of five questions
        run_until(config, lambda: count(generations) == 2)
        server.gate.open()
        assert count(generations) == 2
        server.gate = Gate(3)  # the last questions; the judge is asked and does not answer
        run_until(config, lambda: is_judge_asked(server))
        server.gate.open()
        assert count(generations) == 5
        assert [count(folder / name) for name in ("judge.jsonl", "scores.jsonl")] == [0, 0]
        server.gate = Gate()
        run_until(config)
        again = Counter(json.dumps(body, sort_keys=True) for body in server.asked)
    assert set(again) == set(asked) and sum((again - asked).values()) <= 2  # the one in flight at each kill
    for name in RECORDS:
        found = [sorted((tmp_path / run / "mathverse" / name).read_text().splitlines()) for run in ("whole", "killed")]
        assert found[0] == found[1], name
    assert json.loads((folder / "metrics.json").read_text()) == whole["mathverse"]
