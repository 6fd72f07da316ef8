"""An arm: one training run of a study, and what it leaves behind."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dft_plugin import __version__
from dft_plugin.errors import DftError

Framework = Literal["llamafactory", "ms_swift"]


@dataclass(frozen=True)
class Arm:
    """One training run. Paths are relative to the study's folder.

    Attributes:
        name: Folder of the arm, for example `seed0/dft`.
        framework: Whose command line trains it.
        loss_type: Objective.
        model: Folder of the model it starts from.
        data: JSONL file with `messages` records.
        data_sha256: Of that file.
        template: Chat template, a name both frameworks know.
        num_steps: Optimiser steps.
        batch_size: Sequences a step.
        learning_rate: Peak, after a tenth of the steps; cosine to 0.
        adam_epsilon: Of the optimiser.
        seed: Of the framework.
        starts_from: Name of the arm whose model it starts from; None for a model that is already there.
        loss_config: Options of the objective, as JSON text; empty for none.
    """

    name: str
    framework: Framework
    loss_type: str
    model: str
    data: str
    data_sha256: str
    template: str
    num_steps: int
    batch_size: int
    learning_rate: float
    adam_epsilon: float
    seed: int
    starts_from: str | None = None
    loss_config: str = ""

    @property
    def output(self) -> str:
        """Folder the framework writes to."""
        return f"{self.name}/model"

    @property
    def trained_model(self) -> str:
        """Folder of the trained model."""
        return self.output if self.framework == "llamafactory" else f"{self.output}/checkpoint-{self.num_steps}"

    @property
    def progress_file(self) -> str:
        """JSONL file that grows by one line a step."""
        return f"{self.output}/{'trainer_log' if self.framework == 'llamafactory' else 'logging'}.jsonl"

    def rerun_command(self) -> str:
        """Return the command that trains this arm again, for the study's folder."""
        if self.framework == "llamafactory":
            return f"llamafactory-cli train {self.name}/train.yaml"
        return f"sh {self.name}/train.sh"

    def settings_hash(self, parent_hash: str) -> str:
        """Changes when anything that decides the result does."""
        content = {**dataclasses.asdict(self), "parent": parent_hash, "dft_plugin": __version__}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class ArmResult:
    """A finished arm.

    Attributes:
        arm: What was trained.
        history: One record a step: `step`, `loss`, `nll`, `one_minus_p`, `grad_norm`, ...
        wall_s: Seconds from start to end.
        cpu_s: CPU seconds of the process and its children.
        framework_version: What trained it, from the record the plugin left.
    """

    arm: Arm
    history: tuple[dict[str, float], ...]
    wall_s: float
    cpu_s: float
    framework_version: str

    def curve(self, key: str) -> list[float]:
        """The values of `key`, a step each."""
        return [record[key] for record in self.history]


def read_history(arm: Arm, folder: Path) -> tuple[dict[str, float], ...]:
    """The steps of a finished arm, as its trainer saved them.

    Raises:
        DftError: the trainer logged another number of steps than it was asked for.
    """
    path = folder / arm.trained_model / "trainer_state.json"
    records: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["log_history"]
    steps = tuple(record for record in records if "loss" in record)
    if len(steps) != arm.num_steps:
        raise DftError(f"{path} has {len(steps)} logged steps; {arm.num_steps} were asked for. Delete {arm.name}.")
    return steps
