"""Whether a configuration can ask vision-language benchmarks at all; looked at before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dft_eval.backends.settings import HfSettings, ReplaySettings, VllmSettings
from dft_eval.errors import ConfigError, MissingPrerequisite
from dft_eval.records.provenance import describe_environment
from dft_eval.run.config import EvalConfig
from dft_eval.vision.process import describe_python, find_python
from dft_eval.vision.settings import VisionSettings


def check_vision(config: EvalConfig, protocol: str) -> None:
    """Refuse what VLMEvalKit cannot do.

    Raises:
        ConfigError: the protocol `judge` without a judge.
        MissingPrerequisite: backend, sampling, model or interpreter do not allow it; says what would.
    """
    check_judge(config.vision, protocol)
    if isinstance(config.backend, VllmSettings):
        raise MissingPrerequisite("VLMEvalKit asks a server or local weights: run `vllm serve` and use backend openai")
    if config.sampling.num_repeats > 1:
        raise MissingPrerequisite(
            f"VLMEvalKit gives one answer a question; num_repeats is {config.sampling.num_repeats}"
        )
    if isinstance(config.backend, HfSettings):
        for model in config.arms().values():
            _check_sees(model)
    if _needs_vlmeval(config, protocol):
        find_python(config.vision.python)


def describe_harness(config: EvalConfig, protocol: str) -> list[dict[str, Any]]:
    """The environment that holds VLMEvalKit, where a run uses it."""
    if not _needs_vlmeval(config, protocol):
        return []
    return [{**describe_environment(), "vlmeval": dict(describe_python(find_python(config.vision.python)))}]


def check_judge(vision: VisionSettings, protocol: str) -> None:
    """Refuse to judge without a judge.

    Raises:
        ConfigError: there is none.
    """
    if protocol == "judge" and vision.judge is None:
        raise ConfigError(
            "protocol judge needs a judge: vision: {judge: {model: ..., base_url: ...}} in the configuration "
            "(dft eval score: --config FILE.yaml); or use protocol rule."
        )


def describe_judge(vision: VisionSettings, protocol: str) -> dict[str, Any]:
    """Who judges, for `run.json`; scores of different judges are not compared."""
    if protocol != "judge" or vision.judge is None:
        return {}
    return {"judge": {"model": vision.judge.model, "base_url": vision.judge.base_url}}


def describe_vision(config: EvalConfig, protocol: str) -> dict[str, Any]:
    """What decides an answer or a verdict, for `run.json`; a server sets its own image limits."""
    vision, is_local = config.vision, isinstance(config.backend, HfSettings)
    names = ("attention", "min_pixels", "max_pixels")
    return {name: getattr(vision, name) if is_local else None for name in names} | describe_judge(vision, protocol)


def _needs_vlmeval(config: EvalConfig, protocol: str) -> bool:
    return protocol == "judge" or not isinstance(config.backend, ReplaySettings)


def _check_sees(model: str) -> None:
    """A folder's `config.json` tells; a hub's name does not."""
    path = Path(model) / "config.json"
    if path.is_file() and "vision_config" not in json.loads(path.read_text(encoding="utf-8")):
        raise MissingPrerequisite(f"{model} is no vision-language model (no vision_config in its config.json)")
