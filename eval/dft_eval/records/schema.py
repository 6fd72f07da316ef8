"""Records of an evaluation: samples to ask, answers of a model, scores.

Each is one line of a run folder's JSONL files. Ids are the benchmark's own, never a position in a file,
so that records made elsewhere, in any order, mean the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

Status = Literal[
    "ok",
    "wrong",
    "timeout",
    "compile_error",
    "runtime_error",
    "oom",
    "truncated",
    "no_answer",
    "forged",
    "unjudged",
    "infra_error",
]
FinishReason = Literal["stop", "length"]
TEXTS = ("completion", "program", "answer")
"""Names of an answer's three texts in a file."""


@dataclass(frozen=True)
class Sample:
    """One question of a benchmark, ready to be sent to a model.

    Attributes:
        sample_id: The benchmark's own id.
        prompt: Text for the completion interface, or chat messages `{"role": ..., "content": ...}` for a chat one.
        stop: Texts before which the model is stopped; empty where only the end-of-sequence token stops it.
        max_new_tokens: Most tokens the model may write.
        problem: The unit of statistics; samples made from one problem share it. Empty: the sample itself.
        continuation: Where it is not empty, nothing is written freely: the model is given this text after the prompt,
            and the answer is what it holds most likely at each of its tokens.
    """

    sample_id: str
    prompt: str | tuple[Mapping[str, str], ...]
    stop: tuple[str, ...]
    max_new_tokens: int
    problem: str = ""
    continuation: str = ""

    @property
    def unit(self) -> str:
        """The problem, or the sample itself where it is one."""
        return self.problem or self.sample_id


@dataclass(frozen=True)
class Answer:
    """Text a model wrote for one sample, here or elsewhere; one line of a JSONL file.

    Exactly one of the three texts is given, else ValueError is raised.

    Attributes:
        sample_id: The sample's id.
        repeat: Which of several answers to the same sample, from 0.
        completion: Text after the prompt.
        program: Complete source, with nothing to be added.
        response: The response text to grade (`answer` in a file).
        finish_reason: `length` where the model ran into its limit; None where it was not recorded.
    """

    sample_id: Annotated[str, Field(min_length=1)]
    repeat: Annotated[int, Field(ge=0)] = 0
    completion: str | None = None
    program: str | None = None
    response: Annotated[str | None, Field(alias="answer")] = None
    finish_reason: FinishReason | None = None

    def __post_init__(self) -> None:
        given = [name for name, text in self._texts.items() if text is not None]
        if len(given) != 1:
            raise ValueError(f"found {' and '.join(given) or 'no text'}; exactly one of {', '.join(TEXTS)} is accepted")

    @property
    def given(self) -> str:
        """Name of the text that is given, one of `TEXTS`."""
        return next(name for name, text in self._texts.items() if text is not None)

    @property
    def text(self) -> str:
        """The text that is given, whichever it is."""
        return self._texts[self.given] or ""

    @property
    def _texts(self) -> dict[str, str | None]:
        return dict(zip(TEXTS, (self.completion, self.program, self.response), strict=True))


@dataclass(frozen=True)
class Score:
    """The verdict on one answer.

    Attributes:
        sample_id: The sample's id.
        repeat: Which of several answers to the same sample.
        passed: True, False, or None where no verdict was possible (`unjudged`, `infra_error`), which counts as
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
