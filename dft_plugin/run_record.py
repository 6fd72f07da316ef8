"""`dft_run.json`: what a training run trained with, in its output folder and in each checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dft_eval.records.changes import compare_settings
from dft_plugin.config import EXECUTION_OPTIONS, LossConfig
from dft_plugin.errors import ConflictError

RECORD_NAME = "dft_run.json"
_SECOND_PHASE = (
    "A second phase with another loss starts from the weights alone, in a new output_dir: give the checkpoint as "
    "model_name_or_path (an adapter: adapter_name_or_path) in LLaMA-Factory, or add --resume_only_model true in "
    "ms-swift."
)


def write_whole(path: Path, text: str) -> None:
    """Write `text` whole or not at all; the folder is made where it is absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def write_json(path: Path, record: Any) -> None:
    """Write `record` whole or not at all."""
    write_whole(path, json.dumps(record, indent=2) + "\n")


def state_of_resumed(checkpoint: Path, output_dir: Path, now: dict[str, Any]) -> dict[str, float]:
    """Return the state that a run resuming with its optimiser goes on from, after checking that its loss is the same.

    Args:
        checkpoint: The checkpoint's folder; where there is none, the record of `output_dir` counts.
        output_dir: The run's output folder.
        now: The record of this run.

    Raises:
        ConflictError: the run began with another loss, plain training included.
    """
    path = (checkpoint if checkpoint.is_dir() else output_dir) / RECORD_NAME
    if path.exists():
        before: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        refuse_other_loss(before, now, path)
        state: dict[str, float] = before.get("state", {})  # absent in records of version 1
        return state
    if not _is_plain(now):
        raise ConflictError(
            f"{path} does not exist, so {path.parent} was trained without loss_type, and its optimiser state belongs "
            f"to that loss; {now['loss_type']} would go on from it. Resume with loss_type: sft if it was plain "
            f"cross-entropy. {_SECOND_PHASE}"
        )
    return {}


def refuse_plain_resume(checkpoint: Path) -> None:
    """Check that training without `loss_type` does not go on from the optimiser state of another loss.

    Args:
        checkpoint: The checkpoint's folder that training resumes from in full.

    Raises:
        ConflictError: its record names a loss that is not plain cross-entropy.
    """
    path = checkpoint / RECORD_NAME
    if not path.exists():
        return
    before: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if not _is_plain(before):
        raise ConflictError(
            f"{path} says this run began with loss_type {before['loss_type']}, and loss_type is not set now: its "
            f"optimiser would go on under another loss. Set loss_type: {before['loss_type']} and the loss_config it "
            f"names to resume. {_SECOND_PHASE}"
        )


def refuse_other_loss(before: dict[str, Any], now: dict[str, Any], path: Path) -> None:
    """Check that a resumed run trains what it began with; how the loss is computed may change.

    Args:
        before: The record found.
        now: The record of this run.
        path: Where `before` was found, for the message.

    Raises:
        ConflictError: another objective or other options.
    """
    if differing := compare_settings(_trains(before), _trains(now)):
        raise ConflictError(
            f"{path} says this run began with another loss: {'; '.join(differing)}. "
            f"Resume with the same loss. {_SECOND_PHASE}"
        )


def _is_plain(record: dict[str, Any]) -> bool:
    """Say whether the loss is what a framework trains where nothing is set."""
    return record["loss_type"] == "sft" and _trains(record) == _trains(LossConfig.parse("sft").record())


def _trains(record: dict[str, Any]) -> dict[str, Any]:
    options = {key: value for key, value in record["loss_config"].items() if key not in EXECUTION_OPTIONS}
    return {"loss_type": record["loss_type"], **options}
