"""Score one answer inside a worker, whatever happens there."""

from __future__ import annotations

from dataclasses import asdict

from dft_eval.records.jsonl import encode_record
from dft_eval.records.schema import Answer, Score
from dft_eval.tasks.base import Task


def score_answer(task: Task, answer: Answer) -> Score:
    """Return the task's score, or `infra_error` where scoring itself went wrong: that is never the answer's fault."""
    try:
        score = task.score(answer)
        _check_score(score, answer)
    except Exception as error:  # noqa: BLE001 - recorded with its text; one answer must not end a run of thousands
        return infra_error(answer, f"scoring raised {type(error).__name__}: {error}")
    return score


def infra_error(answer: Answer, reason: str) -> Score:
    """Return the score of an answer that could not be scored because of us."""
    return Score(answer.sample_id, answer.repeat, None, "infra_error", None, {"reason": reason[:2000]})


def _check_score(score: Score, answer: Answer) -> None:
    if (score.sample_id, score.repeat) != (answer.sample_id, answer.repeat):
        raise ValueError(f"the score is about {score.sample_id!r} repeat {score.repeat}")
    if (score.passed is None) != (score.status in ("unjudged", "infra_error")):
        raise ValueError(f"status {score.status!r} contradicts passed={score.passed}")
    if (score.passed is None) != (score.score is None) or not 0 <= (score.score or 0) <= 1:
        raise ValueError(f"score {score.score!r} contradicts passed={score.passed}, or is outside [0, 1]")
    encode_record(asdict(score))
