"""Verdicts on a rollout's answers: one a line in `scores.jsonl`, so that an interrupted grading resumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tqdm import tqdm

from dft_eval.records.samples import answer_key
from dft_eval.records.schema import Answer, Score, Status
from dft_eval.records.store import RunFolder
from dft_eval.rollout.prompt import Prompt
from dft_eval.run.grade import Grade, Rules, grade_records


def grade_answers(
    folder: RunFolder, answers: Sequence[Answer], prompts: Mapping[str, Prompt], rules: Rules, num_workers: int | None
) -> list[Score]:
    """Grade the answers that have no verdict yet.

    Args:
        folder: The claimed run folder.
        answers: All of it, in any order.
        prompts: By id.
        rules: As in `dft eval grade`.
        num_workers: Grading processes; None is one a core.

    Returns:
        A verdict on every answer, in the order given.
    """
    with folder.scores() as log:
        pending = [answer for answer in answers if answer_key(answer) not in log.records]
        records = ({"gold": list(prompts[answer.sample_id].golds), "response": answer.text} for answer in pending)
        with tqdm(total=len(answers), initial=len(answers) - len(pending), desc="grading", disable=None) as bar:
            for answer, grade in zip(pending, grade_records(records, rules, num_workers), strict=True):
                log.append([_score(answer, grade)])
                bar.update()
        return [log.records[answer_key(answer)] for answer in answers]


def _score(answer: Answer, grade: Grade) -> Score:
    """The verdict; an answer that ran into its limit has no end, whatever it says."""
    is_cut = answer.finish_reason == "length"
    status: Status = "truncated" if is_cut and grade.status == "no_answer" else grade.status
    detail = {"read": grade.read, "truncated": is_cut} | ({"message": grade.message} if grade.message else {})
    value = None if grade.passed is None else float(grade.passed)
    return Score(answer.sample_id, answer.repeat, grade.passed, status, value, detail)
