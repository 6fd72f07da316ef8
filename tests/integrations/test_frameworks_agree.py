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


@pytest.mark.parametrize("loss_type", ["sft", "dft"])
def test_per_step_losses(tmp_path, loss_type):
    require(SWIFT_PYTHON.exists(), "the ms-swift environment, .venv-swift (`make setup`)")
    model, data = tiny.make_text_model(tmp_path / "model"), tiny.write_llamafactory_data(tmp_path / "data")
    settings = {**COMMON, **SAME, "loss_type": loss_type}
    folder = run_in_process(config(model, data, tmp_path / "llamafactory", **settings, cutoff_len=512))

    rows = [
        [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}]
        for row in json.loads((data / "toy.json").read_text())
    ]
    (tmp_path / "toy.jsonl").write_text("".join(json.dumps({"messages": turns}) + "\n" for turns in rows))
    jobs = tmp_path / "jobs.json"
    code = (
        "import json, sys; from pathlib import Path; from tests.integrations import swift_runs as runs;"
        "settings = runs.config(*map(Path, sys.argv[1:4]), **json.loads(sys.argv[4]));"
        "Path(sys.argv[5]).write_text(json.dumps(runs.run_in_process(settings)))"
    )
    paths = [str(tmp_path / name) for name in ("model", "toy.jsonl", "ms_swift")]
    overrides = json.dumps({**settings, "max_length": 512})
    result = subprocess.run(
        [str(SWIFT_PYTHON), "-c", code, *paths, overrides, str(jobs)],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if key not in ("HF_HOME", "MODELSCOPE_CACHE")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    ours = [entry for entry in json.loads(jobs.read_text()) if "loss" in entry]
    theirs = history(folder)
    assert len(ours) == len(theirs) == 6
    for step, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        for key in ("loss", "grad_norm", "nll", "one_minus_p"):
            assert a[key] == pytest.approx(b[key], rel=1e-4), f"{key} at step {step + 1}"
