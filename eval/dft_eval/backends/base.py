"""What a backend is: it is asked for answers and gives them in batches, in any order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from dft_eval.errors import ConfigError
from dft_eval.records.jsonl import Key
from dft_eval.records.schema import Answer, FinishReason, Sample

Interface = Literal["completion", "chat"]
"""Whether a model continues a text or answers chat messages through its template."""


@dataclass(frozen=True)
class SamplingParams:
    """How tokens are drawn; every backend is told all of it, so that no server's defaults decide.

    Attributes:
        temperature: 0 is greedy.
        top_p: Smallest set of tokens with this probability is kept; 1 keeps all.
        top_k: So many tokens are kept; -1 keeps all.
        repetition_penalty: Divides the logits of tokens seen before, where positive, else multiplies them; 1 is none.
        max_new_tokens: Replaces the benchmark's own limit.
        seed: Of the random numbers.
        num_repeats: Answers a sample.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = -1
    repetition_penalty: float = 1.0
    max_new_tokens: int | None = None
    seed: int = 0
    num_repeats: int = 1


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
        """What a model wrote; halves of surrogate pairs, which are no text, become U+FFFD."""
        text = completion.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
        return Answer(self.sample.sample_id, self.repeat, completion=text, finish_reason=finish_reason)


class Backend(Protocol):
    """Where answers come from."""

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Answer]]:
        """An answer to every request, in batches as they come.

        Raises:
            BackendError: an answer that could not be had; those given before stay good.
        """

    def close(self) -> None:
        """Free the memory or the connections."""


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


def check_interface(task_name: str, samples: Sequence[Sample], interface: Interface) -> None:
    """A benchmark that asks in text needs `completion`, one that asks in messages `chat`.

    Raises:
        ConfigError: they do not fit; a prompt is never turned into the other form.
    """
    for sample in samples:
        found = "completion" if isinstance(sample.prompt, str) else "chat"
        if found != interface:
            raise ConfigError(
                f"interface: {interface}, but {task_name} asks in the form of {found} with this protocol "
                f"({sample.sample_id}). Set `interface: {found}`, or choose another `protocol`."
            )


def _seed(seed: int, sample_id: str, repeat: int) -> int:
    digest = hashlib.sha256(f"{seed}\0{sample_id}\0{repeat}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
