"""Runs of the real LLaMA-Factory: many in one process, some through its command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.integrations.warm_process import freeze_imports

CLI = Path(sys.executable).with_name("llamafactory-cli")


def config(model: Path, data: Path, output_dir: Path, **overrides: Any) -> dict[str, Any]:
    """A complete tiny training configuration."""
    settings = {
        "model_name_or_path": str(model),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "full",
        "dataset": "toy",
        "dataset_dir": str(data),
        "template": "qwen",
        "cutoff_len": 96,
        "output_dir": str(output_dir),
        "overwrite_output_dir": True,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 4,
        "max_steps": 3,
        "learning_rate": 1.0e-3,  # Adam turns rounding into whole steps: a larger rate would measure that
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_shuffling": True,
        "use_cpu": True,
        "preprocessing_num_workers": 1,
        "overwrite_cache": True,
    }
    return {**settings, **overrides}


def history(output_dir: Path, key: str = "loss") -> list[dict[str, float]]:
    """The logged steps that carry `key`, at full precision."""
    state = json.loads((output_dir / "trainer_state.json").read_text())
    return [entry for entry in state["log_history"] if key in entry]


def run_in_process(settings: dict[str, Any]) -> Path:
    """One training run by `run_exp`; returns its output folder."""
    from accelerate.state import AcceleratorState
    from llamafactory.train.tuner import run_exp

    AcceleratorState._reset_state(True)
    freeze_imports()
    run_exp(dict(settings))
    return Path(settings["output_dir"])


def run_cli(
    settings: dict[str, Any], *, env: dict[str, str] | None = None, command: list[str] | None = None
) -> subprocess.CompletedProcess:
    """One training run by `llamafactory-cli train FILE.yaml` (or `command FILE.yaml`)."""
    output_dir = Path(settings["output_dir"])
    output_dir.mkdir(parents=True, exist_ok=True)
    file = output_dir / "run.yaml"
    file.write_text(yaml.safe_dump(settings))
    return subprocess.run(
        [*(command or [str(CLI), "train"]), str(file)],
        env={**os.environ, "PATH": f"{CLI.parent}{os.pathsep}{os.environ['PATH']}", **(env or {})},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
