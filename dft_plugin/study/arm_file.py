"""`arm.json` beside the runs of a model: what made it, as the report reads it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from dft_plugin.run_record import write_json
from dft_plugin.study.training import TrainJob, read_record

SCHEMA_VERSION = 1


def write_arm_file(folder: Path, arm: str, seed: int | None, train: TrainJob | None, failed: str | None) -> None:
    """Write it.

    Args:
        folder: Holds the run folders of one model.
        arm: The arm's name.
        seed: Of its training; None where there is one model for all seeds.
        train: How it was trained; None for a model that was given.
        failed: Why it could not be trained or evaluated; None where it was.
    """
    about: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "arm": arm, "seed": seed, "failed": failed}
    if train is not None:
        about |= _describe(train, folder)
    write_json(folder / "arm.json", about)


def _describe(train: TrainJob, folder: Path) -> dict[str, Any]:
    record, cost = read_record(train.output), {}
    if train.record_file.is_file():
        done = json.loads(train.record_file.read_text(encoding="utf-8"))
        cost = {key: done[key] for key in ("wall_s", "cpu_s")}
    version = record.get("framework_version", "")
    return {
        "training": os.path.relpath(train.output, folder),
        "framework": f"{train.trainer.title} {version}".strip(),
        "loss_type": train.keys.get("loss_type"),
        "loss_config": train.keys.get("loss_config"),
        "learning_rate": train.keys.get("learning_rate"),
        "command": train.shown_command(),
        **cost,
    }
