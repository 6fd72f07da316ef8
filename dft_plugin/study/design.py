"""The YAML of `dft study run`; unknown keys are refused."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dft_eval.records.samples import describe_validation
from dft_plugin.errors import ConfigError

Framework = Literal["llamafactory", "ms_swift"]
Name = Annotated[str, Field(pattern=r"^[\w][\w.+=-]*$")]
Seed = Annotated[int, Field(ge=0)]
Variables = dict[str, str]

_WRITTEN = {
    "llamafactory": ("model_name_or_path", "output_dir", "seed", "resume_from_checkpoint", "overwrite_output_dir"),
    "ms_swift": ("model", "output_dir", "seed", "resume_from_checkpoint", "add_version"),
}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ArmConfig(_Part):
    """One way of training, or none.

    Attributes:
        framework: Whose command line trains it.
        train: The framework's own configuration file; None leaves the model as it is (the base arm).
        overrides: Keys of that file with other values; model, output folder and seed are the study's to set.
        start_from: Arm whose trained model it starts from; None starts from the study's model.
        seeds: Seeds of this arm; None takes the study's.
        grid: Values by key: the arm becomes one arm for each combination (learning rates, batch sizes).
        env: Environment variables, such as `FORCE_TORCHRUN` or `NPROC_PER_NODE`.
        launcher: What starts the framework's training program instead of its own command, such as
            `[accelerate, launch, --config_file, fsdp2.yaml]`.
    """

    framework: Framework | None = None
    train: Path | None = None
    overrides: dict[str, Any] = {}
    start_from: Name | None = None
    seeds: Annotated[list[Seed], Field(min_length=1)] | None = None
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}
    env: Variables = {}
    launcher: list[str] = []

    @model_validator(mode="after")
    def _is_trained_or_not(self) -> ArmConfig:
        if (self.framework is None) != (self.train is None):
            raise ValueError("`framework` and `train` go together; an arm that is not trained has neither")
        if self.framework is None:
            if given := sorted(self.model_fields_set - {"framework", "train"}):
                raise ValueError(f"{', '.join(given)} of an arm that is not trained; give `framework` and `train` too")
            return self
        if taken := [key for key in (*self.overrides, *self.grid) if key in _WRITTEN[self.framework]]:
            raise ValueError(f"{', '.join(taken)}: the study sets it itself; use `model`, `seeds`, `out`")
        return self


class NamedArm(NamedTuple):
    """An arm as it is trained.

    Attributes:
        name: Of the arm, or of the combination of its grid.
        config: Without a grid.
        grid: The `arm` whose grid it is of and its `values`; None where there is no grid.
    """

    name: str
    config: ArmConfig
    grid: dict[str, Any] | None


class ScanConfig(_Part):
    """The forecast of `dft scan` for the study's model, before anything is trained.

    Attributes:
        data: Training files.
        samples: Rows of each.
        chat: Whether rows go through the tokenizer's chat template.
    """

    data: Annotated[list[Path], Field(min_length=1)]
    samples: Annotated[int, Field(ge=1)] = 200
    chat: bool = True


class ProbsConfig(ScanConfig):
    """Rows whose tokens `dft probs` runs through every trained model."""


class StudyConfig(_Part):
    """All of it.

    Attributes:
        model: The model every arm starts from: a folder, or a name on the hub.
        arms: By name.
        seeds: Every arm is trained once with each.
        evaluation: Configurations of `dft eval run`; their `model`, `models` and `out` are not used.
        baseline: Arm the others are compared with; None takes the first.
        scan: Forecast before training; None leaves it out.
        probs: Token probabilities after training; None leaves it out.
        jobs: Processes at once.
        env: Environment variables of every job.
        swift_python: Interpreter of the ms-swift environment; None looks for `.venv-swift` beside this one.
        out: The study's folder.
    """

    model: Annotated[str, Field(min_length=1)]
    arms: Annotated[dict[Name, ArmConfig], Field(min_length=1)]
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]
    evaluation: list[Path] = []
    baseline: Name | None = None
    scan: ScanConfig | None = None
    probs: ProbsConfig | None = None
    jobs: Annotated[int, Field(ge=1)] = 1
    env: Variables = {}
    swift_python: Path | None = None
    out: Path

    @model_validator(mode="after")
    def _holds_together(self) -> StudyConfig:
        if len({path.stem for path in self.evaluation}) < len(self.evaluation):
            raise ValueError("evaluation: two files of one name; rename one")
        for seeds in (self.seeds, *(arm.seeds for arm in self.arms.values() if arm.seeds is not None)):
            if len(set(seeds)) < len(seeds):
                raise ValueError(f"seeds {seeds}: one of them twice")
        names = [arm.name for arm in self.expanded()]
        if self.baseline is not None and self.baseline not in names:
            raise ValueError(f"baseline {self.baseline!r}; the arms are {', '.join(names)}")
        return self

    def expanded(self) -> Iterator[NamedArm]:
        """Every arm, those with a grid as one arm for each combination: `sft+learning_rate=1e-05`."""
        for name, arm in self.arms.items():
            for values in itertools.product(*arm.grid.values()):
                chosen = dict(zip(arm.grid, values, strict=True))
                full = "+".join([name, *(f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
                                         for key, value in chosen.items())])  # fmt: skip
                config = arm.model_copy(update={"overrides": arm.overrides | chosen, "grid": {}})
                yield NamedArm(full, config, {"arm": name, "values": chosen} if chosen else None)


def load_study(path: Path, *, out: Path | None = None, jobs: int | None = None) -> StudyConfig:
    """Read a study; the command line takes precedence over the file.

    Raises:
        ConfigError: it cannot be read, or is not a study; says where.
    """
    content = read_yaml(path)
    content |= {key: value for key, value in (("out", out), ("jobs", jobs)) if value is not None}
    try:
        return StudyConfig.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {describe_validation(error)}") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping a YAML file holds.

    Raises:
        ConfigError: there is none.
    """
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no mapping of settings.")
    return content
