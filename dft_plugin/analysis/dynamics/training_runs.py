"""Checkpoints that a training run left behind, and the model it began with."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from dft_plugin.analysis.probs.checkpoints import ADAPTER_CONFIG, Checkpoint
from dft_plugin.errors import ConfigError, InputError, MissingPrerequisiteError

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True)
class TrainingRun:
    """One run.

    Attributes:
        name: What it is called in the result.
        path: The folder the framework wrote to.
        base: Model it began with: step 0.
        checkpoints: Folders by step, rising.
    """

    name: str
    path: Path
    base: str
    checkpoints: dict[int, Path]


def read_run(given: Checkpoint, *, base: str | None, every: int) -> TrainingRun:
    """Find a run's checkpoints.

    Args:
        given: Name and folder.
        base: The model it began with; None reads the run's record.
        every: Only steps that are multiples of it, and the last one.

    Raises:
        MissingPrerequisiteError: no such folder.
        ConfigError: no checkpoints, or ones that cannot be evaluated, or a base that is not known.
    """
    folder = Path(given.path)
    if not folder.is_dir():
        raise MissingPrerequisiteError(f"training run {folder} is not there; check the path, or train it first.")
    found = _checkpoints(folder)
    last = max(found)
    chosen = {step: path for step, path in found.items() if step % every == 0 or step == last}
    for step, path in chosen.items():
        _check(path, step)
    return TrainingRun(given.name, folder, base or _recorded_base(folder, list(chosen.values())), chosen)


def _checkpoints(folder: Path) -> dict[int, Path]:
    found = {int(match[1]): path for path in folder.iterdir() if (match := _CHECKPOINT.fullmatch(path.name))}
    if found:
        return dict(sorted(found.items()))
    below = sorted({path.parent.name for path in folder.glob("*/checkpoint-*")})
    hint = f" There are some in {', '.join(below)}; give that folder." if below else ""
    raise ConfigError(
        f"{folder} has no checkpoint-N.{hint} LLaMA-Factory and ms-swift write them with save_steps, and keep all of "
        "them without save_total_limit."
    )


def _check(path: Path, step: int) -> None:
    """A checkpoint that an evaluation can load, of the step that its folder says."""
    if (path / ADAPTER_CONFIG).is_file():
        raise ConfigError(
            f"{path} holds an adapter; whole models are accepted. Merge each checkpoint into a folder of its name: "
            f"llamafactory-cli export, or swift export --adapters {path} --merge_lora true."
        )
    if not (path / "config.json").is_file():
        raise ConfigError(f"{path} has no config.json; whole models are accepted. Delete it if its saving was cut off.")
    state = path / "trainer_state.json"
    if state.is_file() and (found := json.loads(state.read_text(encoding="utf-8"))["global_step"]) != step:
        raise InputError(f"{state} is of step {found}, and its folder says {step}; rename the folder.")


def _recorded_base(folder: Path, checkpoints: Sequence[Path]) -> str:
    """The base as ms-swift (args.json) or LLaMA-Factory (the model card) recorded it; a ConfigError for neither."""
    for place in (folder, *checkpoints):
        arguments = place / "args.json"
        if arguments.is_file() and (model := json.loads(arguments.read_text(encoding="utf-8")).get("model")):
            return str(model)
    card = folder / "README.md"
    if card.is_file():
        head = card.read_text(encoding="utf-8").split("---\n")
        found = yaml.safe_load(head[1]) if len(head) > 2 and not head[0].strip() else None
        if isinstance(found, dict) and isinstance(base := found.get("base_model"), str):
            return base
    raise ConfigError(
        f"{folder} does not say which model it began with: neither args.json (ms-swift) nor a model card with "
        "base_model (LLaMA-Factory, at the end of a run) is there. Give it: --base MODEL."
    )
