"""Checks that vision-language benchmarks can be asked and judged, before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dft_eval.backends.base import BackendSettings, SamplingParams
from dft_eval.backends.hf import HfSettings
from dft_eval.backends.openai_server import OpenAISettings
from dft_eval.errors import ConfigError, MissingPrerequisite
from dft_eval.records.provenance import describe_environment
from dft_eval.vision.process import describe_python, find_python
from dft_eval.vision.settings import VisionSettings


def check_backend(
    backend: BackendSettings, sampling: SamplingParams, models: Iterable[str]
) -> HfSettings | OpenAISettings:
    """Return the backend, where VLMEvalKit can ask through it.

    Args:
        backend: Of the configuration; not a replayed file.
        sampling: How tokens are drawn.
        models: Folders or names.

    Raises:
        MissingPrerequisite: backend, sampling or a model do not allow it; says what would.
    """
    if not isinstance(backend, (HfSettings, OpenAISettings)):
        raise MissingPrerequisite("VLMEvalKit asks a server or local weights: run `vllm serve` and use backend openai")
    if sampling.num_repeats > 1:
        raise MissingPrerequisite(f"VLMEvalKit gives one answer a question; num_repeats is {sampling.num_repeats}")
    if isinstance(backend, HfSettings):
        for model in models:
            _check_sees(model)
    return backend


def check_judge(vision: VisionSettings) -> None:
    """Refuse the protocol `judge` without a judge.

    Raises:
        ConfigError: there is none.
    """
    if vision.judge is None:
        raise ConfigError(
            "protocol judge needs a judge: vision: {judge: {model: ..., base_url: ...}} in the configuration "
            "(dft eval score: --config FILE.yaml); or use protocol rule."
        )


def describe_vlmeval(vision: VisionSettings) -> dict[str, Any]:
    """Return the environment that holds VLMEvalKit, for `run.json`."""
    return {**describe_environment(), "vlmeval": dict(describe_python(find_python(vision.python)))}


def describe_judge(vision: VisionSettings) -> dict[str, Any]:
    """Return the judge for `run.json`; scores of different judges are not compared."""
    return {} if vision.judge is None else {"judge": {"model": vision.judge.model, "base_url": vision.judge.base_url}}


def describe_images(vision: VisionSettings, backend: BackendSettings) -> dict[str, Any]:
    """Return image limits and attention for `run.json`; None for all, where a server sets its own."""
    is_local = isinstance(backend, HfSettings)
    return {name: getattr(vision, name) if is_local else None for name in ("attention", "min_pixels", "max_pixels")}


def _check_sees(model: str) -> None:
    """Refuse a folder whose `config.json` has no vision part; a hub's name is not checked."""
    path = Path(model) / "config.json"
    if path.is_file() and "vision_config" not in json.loads(path.read_text(encoding="utf-8")):
        raise MissingPrerequisite(f"{model} is no vision-language model (no vision_config in its config.json)")
