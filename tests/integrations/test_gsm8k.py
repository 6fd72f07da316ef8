"""Real input: the example files on all 7,473 GSM8K training solutions; the true cross-entropy falls.

A third of an epoch here; the files as they are train one.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dft_plugin.demo.gsm8k import NUM_TRAIN, write_inputs
from dft_plugin.errors import MissingPrerequisiteError

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

EXAMPLES = Path(__file__).parents[2] / "yaml_examples" / "demo"
STEPS = 40


@pytest.fixture
def folder(data_dir, tmp_path):
    write_inputs(tmp_path / "runs" / "gsm8k", data_dir)
    return tmp_path


def run(folder, *command):
    binaries = Path(sys.executable).parent
    env = {**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}", "MODELSCOPE_CACHE": str(folder)}
    result = subprocess.run(
        [str(binaries / command[0]), *command[1:]],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]
    return result.stdout + result.stderr


def assert_learned(entries):
    losses = [entry["eval_loss"] for entry in entries if "eval_loss" in entry]
    assert len(losses) >= 2 and losses[-1] < losses[0] - 0.3
    objective = [entry["eval_objective"] for entry in entries if "eval_loss" in entry]
    assert all(a < 0.5 * b for a, b in zip(objective, losses, strict=True)), "eval_loss must be plain cross-entropy"


@pytest.mark.llamafactory
def test_llamafactory(folder):
    file = str(EXAMPLES / "gsm8k_dft.yaml")
    log = run(folder, "llamafactory-cli", "train", file, f"max_steps={STEPS}", f"eval_steps={STEPS}")
    assert f"Num examples = {NUM_TRAIN:,}" in log
    state = json.loads((folder / "runs/gsm8k/dft_llamafactory/trainer_state.json").read_text())
    assert_learned(state["log_history"])


@pytest.mark.swift
def test_ms_swift(folder):
    file = str(EXAMPLES / "gsm8k_dft_ms_swift.yaml")
    log = run(folder, "swift", "sft", file, "--max_steps", str(STEPS), "--eval_steps", str(STEPS))
    assert f"num_rows: {NUM_TRAIN}" in log
    lines = (folder / "runs/gsm8k/dft_ms_swift/logging.jsonl").read_text().splitlines()
    assert_learned([json.loads(line) for line in lines])


def test_other_files_are_not_gsm8k(tmp_path):
    with pytest.raises(MissingPrerequisiteError, match="grade-school-math"):
        write_inputs(tmp_path / "out", tmp_path)
    (tmp_path / "gsm8k").mkdir()
    for name in ("train", "test"):
        (tmp_path / "gsm8k" / f"{name}.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n')
    with pytest.raises(MissingPrerequisiteError, match="has 1 rows"):
        write_inputs(tmp_path / "out", tmp_path)
