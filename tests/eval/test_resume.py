"""`dft eval run` on real benchmarks and a real model, killed again and again: nothing is lost, nothing doubled."""

import json

import pytest
import yaml

from tests.eval.killed_runs import run_plans
from tests.eval.processes import wait_until_gone
from tests.integrations.tiny import make_text_model

TASKS = ("nq_open", "amc23")
LIMIT, NUM_REPEATS = 8, 6
KILLS = [f"{task}/{name}.jsonl" for name in ("generations", "scores") for task in TASKS for _ in range(2)]


@pytest.fixture
def config(tmp_path):
    """Both benchmarks on a tiny random model."""
    pytest.importorskip("torch")
    model = make_text_model(tmp_path / "model")
    path = model / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_position_embeddings": 4096}))  # prompts are long
    content = {
        "model": str(model),
        "tasks": list(TASKS),
        "interface": "completion",
        "backend": {"kind": "hf", "device": "cpu", "batch_size": 4},
        "sampling": {"temperature": 1.0, "num_repeats": NUM_REPEATS, "max_new_tokens": 24},
        "out": "given on the command line",
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def lines(path):
    return path.read_bytes().splitlines()


def run_all(config, kills):
    """The kills of each run, as they came; `kills` by the run's folder."""
    command = ["eval", "run", str(config), "--limit", str(LIMIT), "--workers", "1", "--out"]
    plans = [{"command": [*command, str(f)], "folder": str(f), "kills": names} for f, names in kills.items()]
    return run_plans(plans, config.with_name("plans.json"))


@pytest.mark.slow
def test_killed_runs_end_with_the_records_of_an_uninterrupted_one(config, tmp_path, data_dir, monkeypatch):
    for name, value in (("DFT_DATA_DIR", data_dir), ("OMP_NUM_THREADS", 1), ("DFT_TEST_MARKER", tmp_path)):
        monkeypatch.setenv(name, str(value))
    _, kills = run_all(config, {tmp_path / "whole": [], tmp_path / "killed": KILLS})
    in_the_middle = {name for name, (_, held) in zip(KILLS, kills, strict=True) if 0 < held < LIMIT * NUM_REPEATS}
    assert in_the_middle == set(KILLS), kills
    wait_until_gone(f"DFT_TEST_MARKER={tmp_path}")
    for task in TASKS:
        whole, killed = tmp_path / "whole" / task, tmp_path / "killed" / task
        for name in ("generations.jsonl", "scores.jsonl"):
            assert len(lines(killed / name)) == LIMIT * NUM_REPEATS
            assert sorted(lines(killed / name)) == sorted(lines(whole / name))
        assert (killed / "metrics.json").read_bytes() == (whole / "metrics.json").read_bytes()
