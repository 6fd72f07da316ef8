"""The YAML of `dft eval run`; unknown keys are refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dft_eval.backends.base import Interface, SamplingParams
from dft_eval.backends.catalog import AnyBackend
from dft_eval.errors import ConfigError
from dft_eval.records.samples import describe_validation
from dft_eval.tasks.base import Task, TaskSettings
from dft_eval.vision.settings import VisionSettings


class EvalConfig(BaseModel):
    """All of it.

    Attributes:
        models: Folders or names of models, by the name of their folder below `out`; or `model` for one.
        model: One model.
        tasks: Names of benchmarks; `*` stands for anything.
        protocol: How each benchmark asks and judges; None takes each one's first.
        interface: `completion` or `chat`; must fit the protocol's prompts.
        backend: Where answers come from.
        sampling: How tokens are drawn.
        out: Below it a run folder a task.
        limit: First samples only.
        vision: How VLMEvalKit is run, and who judges, for vision-language benchmarks.
        on_missing: What a benchmark does whose data or tools are not here: `stop` the command, or `skip` it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: dict[Annotated[str, Field(pattern=r"^[\w][\w.-]*$")], str] | None = None
    model: Annotated[str, Field(min_length=1)] | None = None
    tasks: Annotated[list[str], Field(min_length=1)]
    protocol: str | None = None
    interface: Interface
    backend: AnyBackend
    sampling: SamplingParams = SamplingParams()
    out: Path
    limit: Annotated[int, Field(ge=1)] | None = None
    vision: VisionSettings = VisionSettings()
    on_missing: Literal["stop", "skip"] = "stop"

    @model_validator(mode="after")
    def _has_one_kind_of_model(self) -> EvalConfig:
        if (self.model is None) == (not self.models):
            raise ValueError("either `model` or `models` (name: model) is needed, or --model")
        return self

    def arms(self) -> dict[Path, str]:
        """Models by the folder their runs go to."""
        if self.models:
            return {self.out / name: model for name, model in self.models.items()}
        return {self.out: self.model or ""}

    def settings_of(self, task: type[Task]) -> TaskSettings:
        """Return what a benchmark is told of this configuration."""
        return TaskSettings(self.backend, self.interface, self.sampling, tuple(self.arms().values()), self.vision)


def load_config(
    path: Path,
    *,
    model: str | None = None,
    tasks: Sequence[str] | None = None,
    out: Path | None = None,
    limit: int | None = None,
) -> EvalConfig:
    """Read a configuration file; what the command line gives stands in for what the file says.

    Raises:
        ConfigError: the file cannot be read, or is not a configuration; says where.
    """
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no mapping; see yaml_examples/eval/code.yaml.")
    if model is not None:
        content.pop("models", None)
    given = {"model": model, "tasks": list(tasks) if tasks else None, "out": out, "limit": limit}
    content |= {key: value for key, value in given.items() if value is not None}
    try:
        return EvalConfig.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {describe_validation(error)}") from error
