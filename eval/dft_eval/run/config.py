"""The YAML of `dft eval run`; unknown keys are refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dft_eval.backends.base import Interface, SamplingParams
from dft_eval.backends.catalog import AnyBackend
from dft_eval.errors import ConfigError
from dft_eval.records.samples import describe_validation
from dft_eval.tasks.base import Task, TaskSettings
from dft_eval.vision.settings import VisionSettings

Choice = TypeVar("Choice", bound=str)
Config = TypeVar("Config", bound=BaseModel)


class EvalConfig(BaseModel):
    """All of it.

    Attributes:
        models: Folders or names of models, by the name of their folder below `out`; or `model` for one.
        model: One model.
        tasks: Names of benchmarks; `*` stands for anything.
        protocol: How each benchmark asks and scores; one for all, or one by benchmark, pattern or domain. None takes
            the benchmark's first that fits the interface.
        interface: `completion` or `chat`, for all or by benchmark, pattern or domain; must fit the protocol's prompts.
        backend: Where answers come from.
        sampling: How tokens are drawn.
        out: Below it a run folder a task.
        limit: First samples only.
        vision: How VLMEvalKit is run, and the judge, for vision-language benchmarks.
        on_missing: What a benchmark does whose data or tools are not here: `stop` the command, or `skip` it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: dict[Annotated[str, Field(pattern=r"^[\w][\w.-]*$")], str] | None = None
    model: Annotated[str, Field(min_length=1)] | None = None
    tasks: Annotated[list[str], Field(min_length=1)]
    protocol: str | dict[str, str] | None = None
    interface: Interface | dict[str, Interface]
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
        """Return the models by the folder their runs go to."""
        if self.models:
            return {self.out / name: model for name, model in self.models.items()}
        return {self.out: self.model or ""}

    def settings_of(self, task: type[Task]) -> TaskSettings:
        """Return a benchmark's part of this configuration."""
        interface = self._interface_of(task)
        return TaskSettings(self.backend, interface, self.sampling, tuple(self.arms().values()), self.vision)

    def protocol_of(self, task: type[Task]) -> str:
        """Return a benchmark's protocol: the one set, else its first that fits the interface, else its first."""
        chosen = _choose(self.protocol, task) if isinstance(self.protocol, dict) else self.protocol
        if chosen is not None:
            return chosen
        wants_chat = self._interface_of(task) == "chat"
        fitting = [name for name in task.protocols if (name in task.chat_protocols) == wants_chat]
        return [*fitting, *task.protocols][0]

    def _interface_of(self, task: type[Task]) -> Interface:
        if not isinstance(self.interface, dict):
            return self.interface
        chosen = _choose(self.interface, task)
        if chosen is None:
            raise ConfigError(
                f"interface: says nothing about {task.name} ({task.domain}); it has {', '.join(self.interface)}. "
                f"Add `{task.domain}: completion` or `{task.domain}: chat`."
            )
        return chosen


def _choose(choices: Mapping[str, Choice], task: type[Task]) -> Choice | None:
    """The most particular choice: by the benchmark's name, then by the first pattern, then by its domain."""
    if task.name in choices:
        return choices[task.name]
    patterns = [key for key in choices if key not in (task.domain, "*") and fnmatchcase(task.name, key)]
    return next((choices[key] for key in (task.name, *patterns, task.domain, "*") if key in choices), None)


def load_config(
    path: Path,
    *,
    model: str | None = None,
    tasks: Sequence[str] | None = None,
    out: Path | None = None,
    limit: int | None = None,
) -> EvalConfig:
    """Read a configuration file; the command line takes precedence over the file.

    Raises:
        ConfigError: the file cannot be read, or is not a configuration; says where.
    """
    given = {"model": model, "tasks": list(tasks) if tasks else None, "out": out, "limit": limit}
    return read_config(path, EvalConfig, given, example="yaml_examples/eval/code.yaml")


def read_config(path: Path, kind: type[Config], given: Mapping[str, Any], *, example: str) -> Config:
    """Read a YAML file as a configuration of some kind.

    Args:
        path: The file.
        kind: What it is to be.
        given: Values of the command line, which take precedence; None where one was not given. A `model` replaces
            `models` too.
        example: A file that shows one.

    Raises:
        ConfigError: the file cannot be read, or is not a configuration; says where.
    """
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no mapping; see {example}.")
    if given.get("model") is not None:
        content.pop("models", None)
    content |= {key: value for key, value in given.items() if value is not None}
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {describe_validation(error)}") from error
