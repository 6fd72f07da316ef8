"""`dft eval` as a command: help with examples, JSON alone on stdout, exit codes."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import yaml

from dft_eval.cli import app
from dft_eval.tasks.catalog import TASKS
from tests.conftest import require

DFT = Path(sys.executable).with_name("dft")
VERBS = sorted(command.name or command.callback.__name__ for command in app.registered_commands)


def dft(*arguments, **environment):
    command = [str(DFT), "eval", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)


def write_samples(path, count=2):
    lines = [{"sample_id": f"HumanEval/{i}", "completion": "    pass\n"} for i in range(count)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def score_arguments(tmp_path, samples=None, task="humaneval"):
    samples = samples or write_samples(tmp_path / "s.jsonl")
    return ["score", "--task", task, "--samples", samples, "--out", tmp_path / "run", "--workers", 1]


@pytest.fixture
def ready(data_dir, monkeypatch):
    monkeypatch.setenv("DFT_DATA_DIR", str(data_dir))
    require(not TASKS["humaneval"](data_dir, "strict").missing(), "what HumanEval needs: dft eval list")
    return data_dir


def test_the_verbs_of_the_contract():
    assert VERBS == ["fetch", "grade", "list", "run", "score"]
    assert all(verb in dft("--help").stdout for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_help_ends_with_an_example(verb):
    result = dft(verb, "--help")
    assert result.returncode == 0 and f"Example: dft eval {verb}" in result.stdout


def test_list():
    result = dft("list", "--json")
    rows = json.loads(result.stdout)["tasks"]
    assert result.returncode == 0 and [row["name"] for row in rows] == list(TASKS)
    assert all(row["is_ready"] == (not row["missing"]) and row["protocols"] for row in rows)
    lines = dft("list").stdout.splitlines()
    assert all(len(line) <= 80 for line in lines)
    for row in rows:
        (line,) = [line for line in lines if line.split()[:1] == [row["name"]]]
        assert row["domain"] in line and row["protocols"][0] in line and line.endswith("yes") == row["is_ready"]


def test_score(tmp_path, ready):
    result = dft(*score_arguments(tmp_path), "--json")
    metrics = json.loads(result.stdout)
    assert result.returncode == 0, result.stderr
    assert metrics["n"] == 164 and metrics["n_missing"] == 162 and metrics["headline"] is None
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    shown = dft(*score_arguments(tmp_path))
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 4  # 1.4 s on an idle machine
    assert shown.returncode == 0 and "PARTIAL" in shown.stdout


def test_run_with_replayed_answers(tmp_path, ready):
    write_samples(tmp_path / "s.jsonl", count=2)
    config = {
        "model": "recorded",
        "tasks": ["humaneval"],
        "protocol": "strict",
        "interface": "completion",
        "backend": {"kind": "replay", "samples": str(tmp_path / "s.jsonl")},
        "out": str(tmp_path / "out"),
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    result = dft("run", tmp_path / "c.yaml", "--limit", 2, "--workers", 1, "--json")
    assert result.returncode == 0, result.stderr
    (metrics,) = json.loads(result.stdout)["runs"].values()
    assert metrics["n_scored"] == 2 and metrics["headline"] is None
    changed = dft("run", tmp_path / "c.yaml", "--limit", 1, "--workers", 1)
    assert changed.returncode == 2 and "run.json differs in: limit 2 -> 1" in changed.stderr


def test_wrong_usage_is_exit_code_2(tmp_path, ready):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"sample_id": "HumanEval/0"}\n')
    (tmp_path / "c.yaml").write_text("modle: x\n")
    for arguments, complaint in (
        (["score"], "Missing option"),
        (score_arguments(tmp_path, task="humanevol"), "task 'humanevol' is unknown; did you mean humaneval"),
        (score_arguments(tmp_path, samples=bad), "line 1: found no text"),
        ([*score_arguments(tmp_path), "--shard", "2/2"], "--shard '2/2'"),
        (["run", tmp_path / "c.yaml"], "Field required"),
    ):
        result = dft(*arguments)
        assert result.returncode == 2 and not result.stdout, (arguments, result.stderr)
        assert complaint in " ".join(result.stderr.split())
    assert not (tmp_path / "run").exists()


def test_absent_data_is_exit_code_3(tmp_path):
    environment = {"DFT_DATA_DIR": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "https_proxy": "http://127.0.0.1:9"}
    result = dft(*score_arguments(tmp_path), **environment)
    assert result.returncode == 3 and "Run: dft eval fetch humaneval" in result.stderr
    result = dft("fetch", "humaneval", **environment)
    assert result.returncode == 3 and "On a machine with network run: dft eval fetch humaneval" in result.stderr


def test_fetch_finds_what_is_there(ready):
    result = dft("fetch", "humaneval", "--json")
    assert result.returncode == 0 and json.loads(result.stdout)["tasks"]["humaneval"]["downloaded"] == []


@pytest.mark.slow
def test_an_interrupt_is_exit_code_130_and_resumes(tmp_path, ready):
    samples = tmp_path / "s.jsonl"
    lines = [{"sample_id": f"HumanEval/{i}", "program": "import time\nwhile True: time.sleep(1)"} for i in range(4)]
    samples.write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = [str(DFT), "eval", *map(str, score_arguments(tmp_path, samples))]
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a background job ignores interrupts
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=listen)
    deadline = time.monotonic() + 300
    while not (tmp_path / "run/scores.jsonl").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    time.sleep(2)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130 and "Traceback" not in errors, errors
    resumed = dft(*score_arguments(tmp_path, write_samples(tmp_path / "other.jsonl")))
    assert resumed.returncode == 2 and "answers_sha256" in resumed.stderr
