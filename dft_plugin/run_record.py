"""`dft_run.json`: what a training run trained with, in its output folder and in each checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dft_plugin.config import EXECUTION_OPTIONS
from dft_plugin.errors import ConflictError

RECORD_NAME = "dft_run.json"


def write_json(path: Path, record: Any) -> None:
    """Write `record` whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def refuse_other_loss(before: dict[str, Any], now: dict[str, Any], path: Path) -> None:
    """Check that a resumed run trains what it began with; how the loss is computed may change.

    Args:
        before: The record found.
        now: The record of this run.
        path: Where `before` was found, for the message.

    Raises:
        ConflictError: another objective or other options.
    """

    def trains(record: dict[str, Any]) -> dict[str, Any]:
        options = {key: value for key, value in record["loss_config"].items() if key not in EXECUTION_OPTIONS}
        return {"loss_type": record["loss_type"], **options}

    old, new = trains(before), trains(now)
    keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    differing = [f"{key} {old.get(key)} -> {new.get(key)}" for key in keys]
    if differing:
        raise ConflictError(
            f"{path} says this run began with another loss: {'; '.join(differing)}. "
            "Resume with the same loss, or start in a new output_dir."
        )
