"""The `backend:` part of a configuration file; unknown keys are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def check_base_url(url: str) -> str:
    """An address without a secret in it, since settings are written down.

    Raises:
        ValueError: it is none, or holds one.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("an http or https address is accepted, for example http://127.0.0.1:8000/v1")
    if parts.username or parts.password or parts.query:
        raise ValueError("holds a user, a password or a query, which run.json would repeat; use api_key_env")
    return url


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    speed_only: ClassVar[frozenset[str]] = frozenset()
    """Settings no answer depends on; they may change when a run is resumed."""


class OpenAISettings(_Settings):
    """An OpenAI-compatible server; the key comes from the environment and is never written.

    Attributes:
        base_url: For example `http://127.0.0.1:8000/v1`.
        api_key_env: Environment variable that holds the key; where it is unset, none is sent but a placeholder.
        concurrency: Requests at once.
        timeout_s: For one answer.
        max_attempts: For one answer, where connection or server fail.
    """

    speed_only: ClassVar[frozenset[str]] = frozenset({"api_key_env", "concurrency", "timeout_s", "max_attempts"})

    kind: Literal["openai"]
    base_url: Annotated[str, AfterValidator(check_base_url)]
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: Annotated[int, Field(ge=1, le=4096)] = 32
    timeout_s: Annotated[float, Field(gt=0)] = 600.0
    max_attempts: Annotated[int, Field(ge=1)] = 8


class VllmSettings(_Settings):
    """VLLM in this process.

    Attributes:
        dtype: Of the weights; `auto` is the checkpoint's.
        tensor_parallel_size: GPUs a model is split over.
        gpu_memory_utilization: Share of each GPU's memory it takes.
        max_model_len: Longest prompt and answer together; None is the model's.
        batch_size: Answers after which the file is written.
    """

    speed_only: ClassVar[frozenset[str]] = frozenset({"gpu_memory_utilization", "batch_size"})

    kind: Literal["vllm"]
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    tensor_parallel_size: Annotated[int, Field(ge=1)] = 1
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    max_model_len: Annotated[int, Field(ge=1)] | None = None
    batch_size: Annotated[int, Field(ge=1)] = 512


class HfSettings(_Settings):
    """Transformers in this process; its batch size moves greedy answers in low precision, so it may not change.

    Attributes:
        dtype: Of the weights; `auto` is the checkpoint's.
        device: For example `cuda` or `cpu`.
        batch_size: Answers at once.
    """

    kind: Literal["hf"]
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str
    batch_size: Annotated[int, Field(ge=1)] = 16


class ReplaySettings(_Settings):
    """Answers from a file, as `dft eval score --samples` reads them.

    Attributes:
        samples: The file; `{task}` in it stands for the task's name with `_` for `/`.
    """

    kind: Literal["replay"]
    samples: Path


BackendSettings = Annotated[OpenAISettings | VllmSettings | HfSettings | ReplaySettings, Field(discriminator="kind")]
