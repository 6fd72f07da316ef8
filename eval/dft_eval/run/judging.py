"""One answer judged inside a worker, whatever happens there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Protocol

from dft_eval.records.jsonl import encode_record
from dft_eval.records.schema import Answer, Score
from dft_eval.tasks.base import Task


class Executor(Protocol):
    """Where answers are judged."""

    def judge(self, task: Task, answers: Sequence[Answer]) -> Iterator[Score]:
        """One verdict for each answer, in any order."""


def judge_answer(task: Task, answer: Answer) -> Score:
    """The task's verdict, or `infra_error` where judging itself went wrong: that is never the answer's fault."""
    try:
        score = task.score(answer)
        _check_score(score, answer)
    except Exception as error:  # noqa: BLE001 - recorded with its text; one answer must not end a run of thousands
        return infra_error(answer, f"judging raised {type(error).__name__}: {error}")
    return score


def infra_error(answer: Answer, reason: str) -> Score:
    """The verdict on an answer that could not be judged because of us."""
    return Score(answer.sample_id, answer.repeat, None, "infra_error", None, {"reason": reason[:2000]})


def _check_score(score: Score, answer: Answer) -> None:
    if (score.sample_id, score.repeat) != (answer.sample_id, answer.repeat):
        raise ValueError(f"the verdict is about {score.sample_id!r} repeat {score.repeat}")
    if (score.passed is None) != (score.status in ("unjudged", "infra_error")):
        raise ValueError(f"status {score.status!r} contradicts passed={score.passed}")
    if (score.passed is None) != (score.score is None) or not 0 <= (score.score or 0) <= 1:
        raise ValueError(f"score {score.score!r} contradicts passed={score.passed}, or is outside [0, 1]")
    encode_record(asdict(score))
