"""Real input: the example files on all 7,473 GSM8K training solutions; the true cross-entropy falls.

A third of an epoch here; the files as they are train one. Then real weights: two steps of SmolLM2 on short solutions.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dft_plugin.demo.gsm8k import NUM_TRAIN, write_inputs
from dft_plugin.errors import MissingPrerequisiteError
from tests.real_model import TEMPLATE

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


@pytest.fixture
def train_real(real_model, data_dir, tmp_path):
    """(arm, settings) -> the two logged steps of SmolLM2 on the shortest solutions, without their calculator marks."""
    lines = (data_dir / "gsm8k" / "train.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in sorted(lines, key=len)[:2]]
    rows = [{**row, "answer": re.sub("<<.*?>>", "", row["answer"])} for row in rows]
    shared = {"per_device_train_batch_size": 1, "max_steps": 2, "optim": "sgd"}

    def train_llamafactory(arm, settings):
        from tests.integrations.llamafactory_runs import config, history, run_in_process

        data = tmp_path / "data"
        data.mkdir(exist_ok=True)
        columns = {"prompt": "question", "response": "answer"}
        (data / "toy.json").write_text(json.dumps(rows))
        (data / "dataset_info.json").write_text(json.dumps({"toy": {"file_name": "toy.json", "columns": columns}}))
        own = {"template": TEMPLATE, "cutoff_len": 256, "disable_gradient_checkpointing": True}
        return history(run_in_process(config(real_model, data, tmp_path / arm, **shared, **own, **settings)))

    def train_ms_swift(arm, settings):
        from tests.integrations.swift_runs import config, run_in_process

        data = tmp_path / "train.jsonl"
        turns = [[("user", row["question"]), ("assistant", row["answer"])] for row in rows]
        messages = [{"messages": [{"role": role, "content": text} for role, text in row]} for row in turns]
        data.write_text("".join(json.dumps(row) + "\n" for row in messages))
        own = {"model_type": "llama", "template": "chatml", "gradient_checkpointing": False}
        steps = run_in_process(config(real_model, data, tmp_path / arm, **shared, **own, **settings))
        return [step for step in steps if "loss" in step]

    def train(arm, **settings):
        is_swift = importlib.util.find_spec("swift") is not None
        steps = (train_ms_swift if is_swift else train_llamafactory)(arm, settings)
        for weights in (tmp_path / arm).rglob("*.safetensors"):
            weights.unlink()  # half a gigabyte an arm
        return steps

    return train


def assert_real_weights_agree(train, native):
    """sft is plain training, and dft is the framework's own.

    PyTorch's log_softmax adds the 49,152 terms of a row one after another, which leaves 9e-6 of its 2.4 in float32; the
    fused sum leaves 5e-7. So the two differ by 5e-6, and by 2e-5 where probabilities weigh.
    """
    for ours, theirs, rel in (("sft", {}, 2e-5), ("dft", native, 1e-4)):
        found, expected = train(ours, loss_type=ours), train(f"native-{ours}", **theirs)
        assert len(found) == len(expected) == 2
        for a, b in zip(found, expected, strict=True):
            assert (a["loss"], a["grad_norm"]) == pytest.approx((b["loss"], b["grad_norm"]), rel=rel)


@pytest.mark.llamafactory
def test_real_weights_in_llamafactory(train_real):
    assert_real_weights_agree(train_real, {"use_dft_loss": True})


@pytest.mark.swift
def test_real_weights_in_ms_swift(train_real):
    assert_real_weights_agree(train_real, {"enable_dft_loss": True})


def test_other_files_are_not_gsm8k(tmp_path):
    with pytest.raises(MissingPrerequisiteError, match="grade-school-math"):
        write_inputs(tmp_path / "out", tmp_path)
    (tmp_path / "gsm8k").mkdir()
    for name in ("train", "test"):
        (tmp_path / "gsm8k" / f"{name}.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n')
    with pytest.raises(MissingPrerequisiteError, match="has 1 rows"):
        write_inputs(tmp_path / "out", tmp_path)
