"""The table of training runs (`recipes.yaml`) as objects; unknown words are refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict

Framework = Literal["llamafactory", "ms_swift"]
FRAMEWORKS: tuple[Framework, ...] = ("llamafactory", "ms_swift")
NUM_GPUS = 8


class Part(BaseModel):
    """A part of the table."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Shape(Part):
    """What the memory of a run is computed from."""

    params: float
    layers: int
    hidden: int
    intermediate: int
    vocab: int


class Settings(Part):
    """Hyper-parameters; a run's stand over its arm's, those over its experiment's."""

    batch: int | None = None
    epochs: float | None = None
    max_length: int | None = None
    learning_rate: float | None = None
    warmup_ratio: float | None = None
    weight_decay: float | None = None
    adam_beta2: float | None = None
    rows_on_gpu: int | None = None

    def over(self, below: Settings) -> Settings:
        """These, and `below` where these say nothing."""
        return Settings(**below.model_dump(exclude_none=True) | self.model_dump(exclude_none=True))

    def spread(self) -> tuple[int, int]:
        """Rows of a micro-batch, and micro-batches of a step on each GPU."""
        rows = min(self.rows_on_gpu, self.batch // NUM_GPUS)
        accumulation, rest = divmod(self.batch, NUM_GPUS * rows)
        if rest:
            raise ValueError(f"batch {self.batch} is no multiple of {NUM_GPUS} GPUs x {rows} rows")
        return rows, accumulation


class Model(Part):
    """A base model; `llamafactory` and `ms_swift` are keys of those frameworks."""

    name: str
    hub: str
    shape: Shape
    deepspeed: str
    rows_on_gpu: int
    llamafactory: dict[str, Any]
    ms_swift: dict[str, Any]
    notes: list[str] = []


class Arm(Part):
    """What is trained: a loss of ours, or a stage of the framework that has a loss of its own."""

    title: str
    loss_type: str | None = None
    loss_config: dict[str, Any] = {}
    reference: bool = False
    preference: bool = False
    online: bool = False
    settings: Settings = Settings()
    data: str | None = None
    about: str | None = None
    absent: dict[Framework, str] = {}
    llamafactory: dict[str, Any] = {}
    ms_swift: dict[str, Any] = {}
    notes: list[str] = []


class Row(Part):
    """Runs of a model that stand in one place of the paper; `scores` names their arms."""

    model: str
    tuner: Literal["full", "lora"] = "full"
    source: str
    scores: dict[str, float | str | None]
    settings: Settings = Settings()
    variants: str | None = None


class Experiment(Part):
    """Runs that share data, hyper-parameters and the folder."""

    title: str
    data: str | list[str]
    about: str
    metric: str
    evaluate: str
    settings: Settings
    notes: list[str]
    runs: list[Row]


class Table(Part):
    """The whole of `recipes.yaml`."""

    models: dict[str, Model]
    arms: dict[str, Arm]
    builds: dict[str, str]
    experiments: dict[str, Experiment]
    variants: dict[str, dict[str, Settings]]


@dataclass(frozen=True)
class Run:
    """One file: an arm of a row, by one framework."""

    framework: Framework
    folder: str
    experiment: Experiment
    row: Row
    model: Model
    arm_name: str
    arm: Arm
    settings: Settings
    variants: dict[str, Settings]
    builds: dict[str, str]

    @property
    def stem(self) -> str:
        """File name without the ending."""
        return f"{self.row.model}_{self.row.tuner}_{self.arm_name}"

    @property
    def path(self) -> str:
        """File, from the repository's root."""
        return f"yaml_examples/{self.framework}/{self.folder}/{self.stem}.yaml"

    @property
    def output_dir(self) -> str:
        """Where the framework writes."""
        return f"saves/{self.folder}/{self.stem}"

    @property
    def data(self) -> dict[str, str]:
        """Folders by the name of the one dataset each holds."""
        names = self.arm.data or self.experiment.data
        return {name: self._folder(name) for name in ([names] if isinstance(names, str) else names)}

    def _folder(self, name: str) -> str:
        is_built = name in self.builds  # else `dft rollout select` writes it
        if self.arm.reference:
            return f"data/{name if is_built else 'rollout'}_reference_{self.row.model}"
        return f"data/{name}" if is_built else f"data/rollout/{self.framework}"

    @property
    def data_dir(self) -> str:
        """Folder whose dataset_info.json LLaMA-Factory reads."""
        folders = list(self.data.values())
        return folders[0] if len(folders) == 1 else f"yaml_examples/{self.framework}/{self.folder}"


def shown(score: float | str | None) -> str:
    """A figure as the paper prints it."""
    return f"{score:.2f}" if isinstance(score, float) else str(score)


def load() -> Table:
    """The table."""
    return Table.model_validate(yaml.safe_load(Path(__file__).with_name("recipes.yaml").read_text()))


def runs(table: Table) -> Iterator[Run]:
    """Every file's run, in the order of the table; frameworks that lack an arm are left out."""
    for folder, experiment in table.experiments.items():
        for row in experiment.runs:
            for arm_name in list(row.scores)[1:]:  # the first is the base model
                model, arm = table.models[row.model], table.arms[arm_name]
                below = experiment.settings.over(Settings(rows_on_gpu=model.rows_on_gpu))
                settings = row.settings.over(arm.settings.over(below))
                variants = table.variants[row.variants] if row.variants else {}
                for framework in FRAMEWORKS:
                    if framework not in arm.absent:
                        yield Run(
                            framework, folder, experiment, row, model, arm_name, arm, settings, variants, table.builds
                        )
