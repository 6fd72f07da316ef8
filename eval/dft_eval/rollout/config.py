"""The YAML of `dft rollout sample`; unknown keys are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dft_eval.backends.base import Interface, SamplingParams
from dft_eval.backends.catalog import AnyBackend
from dft_eval.run.config import read_config
from dft_eval.run.grade import Rules

GoldForm = Literal["whole", "box", "hashes"]
"""Place of the reference in its column: all of it, its last `\\boxed{}`, or what follows its last `####`."""


class PromptSettings(BaseModel):
    """Source of prompts and references, and the way a prompt is put.

    Attributes:
        file: JSONL, plain or `.gz`.
        prompt: Column with a question, or with chat messages, of which those before the last answer are asked.
        gold: Column with the reference: a text, or a list of texts any of which is right.
        gold_form: Where in that column it stands.
        template: Text around the question, which stands for `{prompt}`.
        system: System message before it; chat alone has one.
        stop: Texts before which the model is stopped.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Path
    prompt: str
    gold: str
    gold_form: GoldForm = "whole"
    template: str = "{prompt}"
    system: str | None = None
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()

    @model_validator(mode="after")
    def _has_place_for_the_question(self) -> PromptSettings:
        if self.template.count("{prompt}") != 1:
            raise ValueError(f"template {self.template!r} must have {{prompt}} in it, once")
        return self


class RolloutConfig(BaseModel):
    """All of it.

    Attributes:
        model: Folder or name.
        prompts: What is asked.
        rules: How answers are graded, as in `dft eval grade`.
        interface: `completion` or `chat`.
        backend: Where answers come from.
        sampling: How tokens are drawn; `num_repeats` answers to each prompt, `max_new_tokens` has no default.
        out: The run folder.
        limit: First prompts only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, Field(min_length=1)]
    prompts: PromptSettings
    rules: Rules
    interface: Interface
    backend: AnyBackend
    sampling: SamplingParams
    out: Path
    limit: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> RolloutConfig:
        if self.sampling.max_new_tokens is None:
            raise ValueError("sampling.max_new_tokens is needed: prompts of your own have no limit of their own")
        if self.interface == "completion" and self.prompts.system is not None:
            raise ValueError("prompts.system goes with `interface: chat`; put its text into prompts.template")
        return self


def load_config(
    path: Path, *, model: str | None = None, out: Path | None = None, limit: int | None = None
) -> RolloutConfig:
    """Read a configuration file; the command line takes precedence over the file.

    Raises:
        ConfigError: the file cannot be read, or is not a configuration; says where.
    """
    given = {"model": model, "out": out, "limit": limit}
    return read_config(path, RolloutConfig, given, example="yaml_examples/rollout/gsm8k.yaml")
