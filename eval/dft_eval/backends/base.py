"""Base class of a backend: requests in, answers out, in batches and in any order; and its settings."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Protocol

import pydantic
from pydantic import BaseModel, ConfigDict, Field, model_validator

from dft_eval.records.jsonl import Key
from dft_eval.records.schema import Answer, FinishReason, Sample

Interface = Literal["completion", "chat"]
"""Form of a prompt: a text that the model continues, or chat messages that go through its template."""


@pydantic.dataclasses.dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class SamplingParams:
    """The `sampling:` part of a configuration; every backend gets all of it, so that no server's defaults decide.

    The default is greedy.

    Attributes:
        temperature: 0 is greedy.
        top_p: Smallest set of tokens with this probability is kept; 1 keeps all.
        top_k: So many tokens are kept; -1 keeps all.
        repetition_penalty: Divides the logits of tokens seen before, where positive, else multiplies them; 1 is none.
        max_new_tokens: Replaces the benchmark's own limit.
        seed: Of the random numbers.
        num_repeats: Answers a sample.
    """

    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: int = -1
    repetition_penalty: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    max_new_tokens: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    num_repeats: Annotated[int, Field(ge=1, le=100_000)] = 1

    @model_validator(mode="after")
    def _makes_sense(self) -> SamplingParams:
        if self.top_k != -1 and self.top_k < 1:
            raise ValueError(f"top_k={self.top_k}; -1 (all tokens) or at least 1 is accepted")
        if self.temperature == 0 and self.num_repeats > 1:
            raise ValueError(
                f"num_repeats={self.num_repeats} at temperature 0 gives the same answer each time; set one of them"
            )
        return self


@dataclass(frozen=True)
class Request:
    """One answer that is wanted.

    Attributes:
        sample: The question.
        repeat: Which of several answers to it.
        seed: Of its random numbers: the same whatever else is asked beside it.
        max_new_tokens: Most tokens to write.
    """

    sample: Sample
    repeat: int
    seed: int
    max_new_tokens: int

    @property
    def key(self) -> Key:
        """The id its answer is recorded under."""
        return self.sample.sample_id, self.repeat

    def answer(self, completion: str, finish_reason: FinishReason) -> Answer:
        """Return the answer with this text; halves of surrogate pairs, which are no text, become U+FFFD."""
        text = completion.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
        return Answer(self.sample.sample_id, self.repeat, completion=text, finish_reason=finish_reason)


class Backend(Protocol):
    """Source of answers: a model in this process, a server, or a file."""

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Answer]]:
        """An answer to every request, in batches as they come.

        Raises:
            BackendError: an answer that could not be had; those given before stay good.
        """

    def close(self) -> None:
        """Free the memory or the connections."""


class BackendSettings(BaseModel, ABC):
    """The `backend:` part of a configuration; unknown keys are refused.

    A backend is one file with a subclass of this, which names its `kind`, and one entry in `backends/catalog.py`, or
    in another package an entry point of the group `dft_eval.backends`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    speed_only: ClassVar[frozenset[str]] = frozenset()
    """Settings no answer depends on; they may change when a run is resumed."""
    model_at: ClassVar[Literal["here", "server", "nowhere"]] = "here"
    """Place of the model: in this process, on a server, or nowhere, since the answers are recorded ones."""

    reads_continuations: ClassVar[bool] = False
    """True for a backend that answers samples with a given `continuation`."""

    @abstractmethod
    def make(self, model: str, interface: Interface, sampling: SamplingParams) -> Backend:
        """Open the backend, which may load the model.

        Args:
            model: Folder or name.
            interface: Form of the prompts.
            sampling: How tokens are drawn.

        Raises:
            MissingPrerequisite: a package or device is not there.
            BackendError: the model cannot be loaded.
        """

    def for_task(self, task_name: str) -> BackendSettings:
        """Return the settings for one benchmark; most backends have the same for all."""
        return self


def make_requests(samples: Sequence[Sample], sampling: SamplingParams) -> list[Request]:
    """Every answer a run needs, each with its own seed."""
    return [
        Request(
            sample,
            repeat,
            _seed(sampling.seed, sample.sample_id, repeat),
            sample.max_new_tokens if sampling.max_new_tokens is None else sampling.max_new_tokens,
        )
        for repeat in range(sampling.num_repeats)
        for sample in samples
    ]


def _seed(seed: int, sample_id: str, repeat: int) -> int:
    digest = hashlib.sha256(f"{seed}\0{sample_id}\0{repeat}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
