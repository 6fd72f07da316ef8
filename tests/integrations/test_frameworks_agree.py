"""The same data, order and seed through LLaMA-Factory and ms-swift: the same losses, step by step."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import require
from tests.integrations import tiny
from tests.integrations.llamafactory_runs import config, history, run_in_process

pytestmark = [pytest.mark.llamafactory, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

ROOT = Path(__file__).parents[2]
SWIFT_PYTHON = ROOT / ".venv-swift" / "bin" / "python"
COMMON = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "max_steps": 6, "learning_rate": 1e-3}
# the frameworks' own defaults differ
SAME = {
    "lr_scheduler_type": "cosine",
    "warmup_ratio": 0.0,
    "weight_decay": 0.0,
    "adam_beta2": 0.999,
    "template": "chatml",
}


LOSS_TYPES = ("sft", "dft")
SWIFT_RUNS = """
import json, sys
from pathlib import Path
from tests.integrations import swift_runs as runs

model, data, jobs = map(Path, sys.argv[1:])
for name, settings in json.loads(jobs.read_text()).items():
    history = runs.run_in_process(runs.config(model, data, jobs.parent / name, **settings))
    jobs.with_name(f"{name}.json").write_text(json.dumps(history))
"""


@pytest.fixture(scope="module")
def swift_histories(inputs):
    """The logged steps of both losses, from one process of the other environment."""
    require(SWIFT_PYTHON.exists(), "the ms-swift environment, .venv-swift (`make setup`)")
    root, model, data = inputs
    rows = [
        [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}]
        for row in json.loads((data / "toy.json").read_text())
    ]
    (root / "toy.jsonl").write_text("".join(json.dumps({"messages": turns}) + "\n" for turns in rows))
    jobs = {name: {**COMMON, **SAME, "loss_type": name, "max_length": 512} for name in LOSS_TYPES}
    (root / "jobs.json").write_text(json.dumps(jobs))
    result = subprocess.run(
        [str(SWIFT_PYTHON), "-c", SWIFT_RUNS, str(model), str(root / "toy.jsonl"), str(root / "jobs.json")],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if key not in ("HF_HOME", "MODELSCOPE_CACHE")},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return {name: json.loads((root / f"{name}.json").read_text()) for name in LOSS_TYPES}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("agree")
    return root, tiny.make_text_model(root / "model"), tiny.write_llamafactory_data(root / "data")


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_per_step_losses(inputs, swift_histories, loss_type):
    root, model, data = inputs
    settings = {**COMMON, **SAME, "loss_type": loss_type}
    theirs = history(
        run_in_process(config(model, data, root / f"llamafactory_{loss_type}", **settings, cutoff_len=512))
    )
    ours = [entry for entry in swift_histories[loss_type] if "loss" in entry]
    assert len(ours) == len(theirs) == 6
    for step, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        for key in ("loss", "grad_norm", "nll", "one_minus_p"):
            assert a[key] == pytest.approx(b[key], rel=1e-4), f"{key} at step {step + 1}"
