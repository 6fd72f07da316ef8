"""Every backend by the `kind` a configuration names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, SerializeAsAny, ValidationError

from dft_eval.backends.base import BackendSettings
from dft_eval.backends.hf import HfSettings
from dft_eval.backends.openai_server import OpenAISettings
from dft_eval.backends.replay import ReplaySettings
from dft_eval.backends.vllm_local import VllmSettings
from dft_eval.plugins import PluginTable
from dft_eval.records.samples import describe_validation

ENTRY_POINTS = "dft_eval.backends"
BACKENDS: Mapping[str, type[BackendSettings]] = PluginTable(
    ENTRY_POINTS,
    BackendSettings,
    {"openai": OpenAISettings, "vllm": VllmSettings, "hf": HfSettings, "replay": ReplaySettings},
)


def parse_backend(value: object) -> BackendSettings:
    """Read the `backend:` part of a configuration.

    Raises:
        ValueError: an unknown kind, or settings that kind does not have.
    """
    if isinstance(value, BackendSettings):
        return value
    kind = value.get("kind") if isinstance(value, Mapping) else None
    if not isinstance(kind, str) or kind not in BACKENDS:
        raise ValueError(f"kind {kind!r}; accepted: {', '.join(BACKENDS)}")
    try:
        return BACKENDS[kind].model_validate(value)
    except ValidationError as error:
        raise ValueError(f"kind {kind}: {describe_validation(error)}") from error


AnyBackend = Annotated[SerializeAsAny[BackendSettings], BeforeValidator(parse_backend)]
"""A field of a configuration that takes the settings of any backend."""
