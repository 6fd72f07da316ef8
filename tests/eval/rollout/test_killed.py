"""A rollout of a real model, killed again and again in sampling and in grading: the files of an uninterrupted one."""

import pytest
import yaml

from tests.eval.killed_runs import run_plans
from tests.eval.rollout.rollout_files import write_rows
from tests.integrations.tiny import make_text_model, samples

NUM_PROMPTS, NUM_REPEATS = 8, 4


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
        [*plans("whole", [], []), *plans("killed", ["generations.jsonl"] * 2, ["scores.jsonl"] * 2)],
        tmp_path / "plans.json",
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
