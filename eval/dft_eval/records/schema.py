"""What travels through an evaluation: a sample is asked, an answer comes back, a score is given.

Each is one line of a run folder's JSONL files. Ids are the benchmark's own, never a position in a file,
so that records made elsewhere, in any order, mean the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal[
    "ok",
    "wrong",
    "timeout",
    "compile_error",
    "runtime_error",
    "oom",
    "truncated",
    "no_answer",
    "unjudged",
    "infra_error",
]
FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Sample:
    """One question of a benchmark, ready to be sent to a model.

    Attributes:
        sample_id: The benchmark's own id.
        prompt: Text for the completion protocol, or chat messages `{"role": ..., "content": ...}` for a chat one.
        stop: Texts before which the model is stopped; empty where only the end-of-sequence token stops it.
        max_new_tokens: Most tokens the model may write.
        problem: The unit of statistics; samples made from one problem share it. Empty: the sample itself.
    """

    sample_id: str
    prompt: str | tuple[Mapping[str, str], ...]
    stop: tuple[str, ...]
    max_new_tokens: int
    problem: str = ""

    @property
    def unit(self) -> str:
        """The problem, or the sample itself where it is one."""
        return self.problem or self.sample_id


@dataclass(frozen=True)
class Answer:
    """What a model wrote for one sample, or what somebody else recorded; exactly one of the three texts is given.

    Attributes:
        sample_id: The sample's id.
        repeat: Which of several answers to the same sample, from 0.
        completion: Text after the prompt.
        program: Complete source, with nothing to be added.
        response: The response text to grade (`answer` in a file).
        finish_reason: `length` where the model ran into its limit; None where nobody recorded it.
    """

    sample_id: str
    repeat: int = 0
    completion: str | None = None
    program: str | None = None
    response: str | None = None
    finish_reason: FinishReason | None = None

    @property
    def text(self) -> str:
        """The text that is given, whichever it is."""
        return next((text for text in (self.completion, self.response, self.program) if text is not None), "")


@dataclass(frozen=True)
class Score:
    """The verdict on one answer.

    Attributes:
        sample_id: The sample's id.
        repeat: Which of several answers to the same sample.
        passed: True, False, or None where nobody could judge it (`unjudged`, `infra_error`), which counts as
            neither.
        status: Why.
        score: In [0, 1]; None where `passed` is.
        detail: What the task adds, JSON values only: verdicts under other protocols, a shortened error output.
    """

    sample_id: str
    repeat: int
    passed: bool | None
    status: Status
    score: float | None
    detail: Mapping[str, Any] = field(default_factory=dict)
