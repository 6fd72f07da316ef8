"""A rollout of a real model, killed again and again in sampling and in grading: the files of an uninterrupted one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.eval.rollout.rollout_files import write_rows
from tests.integrations.tiny import make_text_model, samples

ROOT = Path(__file__).parents[3]
NUM_PROMPTS, NUM_REPEATS = 8, 4


def run_plans(tmp_path, plans):
    file = tmp_path / "plans.json"
    file.write_text(json.dumps(plans))
    runner = [sys.executable, "-m", "tests.eval.killed_runs", str(file)]
    done = subprocess.run(runner, cwd=ROOT, capture_output=True, text=True, check=True)
    results = json.loads(done.stdout.splitlines()[-1])
    for plan, result in zip(plans, results, strict=True):
        assert result["exit_code"] == 0, Path(plan["folder"]).with_suffix(".log").read_text()[-3000:]
    return [result["kills"] for result in results]


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_doubled(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    rows = [{"question": row["question"], "answer": "7"} for row in samples(NUM_PROMPTS)]
    config = tmp_path / "rollout.yaml"
    content = {
        "model": str(make_text_model(tmp_path / "model")),
        "prompts": {"file": str(write_rows(tmp_path / "rows.jsonl", rows)), "prompt": "question", "gold": "answer"},
        "rules": "math",
        "interface": "completion",
        "backend": {"kind": "hf", "device": "cpu", "batch_size": 4},
        "sampling": {"temperature": 1.0, "num_repeats": NUM_REPEATS, "max_new_tokens": 24},
        "out": "given on the command line",
    }
    config.write_text(yaml.safe_dump(content))

    def plans(name, in_sampling, in_grading):
        run = str(tmp_path / name)
        sample = {"command": ["rollout", "sample", str(config), "--out", run], "folder": run, "kills": in_sampling}
        out = ["--out", str(tmp_path / f"{name}_data"), "--workers", "1"]
        return [sample, {"command": ["rollout", "select", run, *out], "folder": run, "kills": in_grading}]

    _, _, in_sampling, in_grading = run_plans(
        tmp_path,
        [*plans("whole", [], []), *plans("killed", ["generations.jsonl"] * 2, ["scores.jsonl"] * 2)],
    )
    total = NUM_PROMPTS * NUM_REPEATS
    assert all(0 < held < total for _, held in [*in_sampling, *in_grading]), (in_sampling, in_grading)
    for name in ("generations.jsonl", "scores.jsonl"):
        whole, killed = ((tmp_path / run / name).read_bytes().splitlines() for run in ("whole", "killed"))
        assert len(killed) == total and sorted(killed) == sorted(whole)
    files = sorted(path.relative_to(tmp_path / "whole_data") for path in (tmp_path / "whole_data").rglob("*.*"))
    assert len(files) == 10
    for file in files:
        assert (tmp_path / "killed_data" / file).read_bytes() == (tmp_path / "whole_data" / file).read_bytes(), file
