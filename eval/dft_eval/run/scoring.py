"""From recorded answers to verdicts and what they are worth; can be repeated and resumed, needs no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tqdm import tqdm

from dft_eval.errors import StoreError
from dft_eval.records.samples import answer_key
from dft_eval.records.schema import Answer, Sample, Score
from dft_eval.records.store import RunFolder
from dft_eval.run.summary import summarise_problems, summarise_run
from dft_eval.tasks.base import Executor, Task


def score_answers(task: Task, answers: Sequence[Answer], folder: RunFolder, executor: Executor) -> list[Score]:
    """Score the answers that have no verdict yet; every verdict is on the disk before the next is waited for.

    Args:
        task: The benchmark.
        answers: Answers to score.
        folder: The claimed run folder.
        executor: Where.

    Returns:
        All verdicts of the folder.
    """
    with folder.scores() as log:
        pending = [answer for answer in answers if answer_key(answer) not in log.records]
        done = len(answers) - len(pending)
        with tqdm(total=len(answers), initial=done, desc=f"scoring {task.name}", disable=None) as bar:
            for score in executor.score(task, pending):
                log.append([score])
                bar.update()
        return list(log.records.values())


def finish_run(
    task: Task,
    samples: Sequence[Sample],
    folder: RunFolder,
    executor: Executor,
    *,
    num_repeats: int | None,
    notes: Sequence[str] = (),
) -> Mapping[str, Any]:
    """Score the recorded answers and write `metrics.json`, for a complete run also `problems.json`.

    Args:
        task: The benchmark.
        samples: All that were to be asked.
        folder: The claimed run folder.
        executor: Where to score.
        num_repeats: Answers each sample must have; None takes the most any sample has.
        notes: Reasons why this is not the whole benchmark.

    Returns:
        The metrics.

    Raises:
        TaskError: the benchmark's numbers contradict each other.
        StoreError: the folder holds answers to other samples, or cannot be written.
    """
    with folder.generations() as log:
        answers = list(log.records.values())
    known = {sample.sample_id for sample in samples}
    if strangers := [answer.sample_id for answer in answers if answer.sample_id not in known]:
        raise StoreError(f"{folder.generations_file} holds {strangers[0]!r}, which {task.name} does not have.")
    scores = score_answers(task, answers, folder, executor)
    if num_repeats is None:
        num_repeats = 1 + max((answer.repeat for answer in answers), default=0)
    metrics = summarise_run(task, samples, answers, scores, num_repeats=num_repeats, notes=notes)
    folder.write_problems(summarise_problems(task, samples, scores, metrics))
    folder.write_metrics(metrics)
    return metrics
