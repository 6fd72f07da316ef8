"""`arm.json` beside the runs of a model: what made it, as the report reads it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dft_plugin.run_record import write_json
from dft_plugin.study.job import Job
from dft_plugin.study.tools import EvalJob
from dft_plugin.study.training import TrainJob, read_record

SCHEMA_VERSION = 1


def write_arm_file(
    folder: Path, about: Mapping[str, Any], train: TrainJob | None, evaluations: Sequence[EvalJob]
) -> None:
    """Write it.

    Args:
        folder: Holds the run folders of one model.
        about: `arm` (its name), `seed` (of its training; None where there is one model for all seeds), `failed` (why it
            could not be trained or evaluated; None where it was) and `grid` (see `NamedArm`).
        train: How it was trained; None for a model that was given.
        evaluations: What wrote the run folders.
    """
    content: dict[str, Any] = {"schema_version": SCHEMA_VERSION, **about}
    if train is not None:
        content |= _describe(train, folder)
    write_json(folder / "arm.json", content | _cost(evaluations, "evaluation_"))


def _describe(train: TrainJob, folder: Path) -> dict[str, Any]:
    record = read_record(train.output)
    version = record.get("framework_version", "")
    return {
        "training": os.path.relpath(train.output, folder),
        "framework": f"{train.trainer.title} {version}".strip(),
        "loss_type": train.keys.get("loss_type"),
        "loss_config": train.keys.get("loss_config"),
        "learning_rate": train.keys.get("learning_rate"),
        "command": train.shown_command(),
        **_cost([train], ""),
    }


def _cost(jobs: Sequence[Job], prefix: str) -> dict[str, float | bool]:
    """Seconds that all of them took, and whether one was resumed; nothing where one is not done."""
    if not all(job.record_file.is_file() for job in jobs):
        return {}
    done = [json.loads(job.record_file.read_text(encoding="utf-8")) for job in jobs]
    seconds = {f"{prefix}{key}": sum(each[key] for each in done) for key in ("wall_s", "cpu_s")}
    return seconds | {f"{prefix}is_resumed": any(each["is_resumed"] for each in done)}
