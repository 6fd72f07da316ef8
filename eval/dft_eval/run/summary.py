"""`metrics.json` and `problems.json`: what answers are worth, what is missing said first, and each problem's part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from dft_eval.errors import TaskError
from dft_eval.metrics import Estimate, check_mean, pass_at_k_share
from dft_eval.records.schema import Answer, Sample, Score
from dft_eval.tasks.base import Task

SCHEMA_VERSION = 1
LIMITED = "--limit"
"""How the note of a run begins that was asked the first samples alone."""
_KS = (1, 2, 4, 5, 8, 10, 16, 20, 25, 32, 50, 64, 100, 128, 200, 256)


def summarise_run(
    task: Task,
    samples: Sequence[Sample],
    answers: Collection[Answer],
    scores: Collection[Score],
    *,
    num_repeats: int,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """The content of `metrics.json`.

    The denominator is all samples that were to be asked: the benchmark, or the first of it with `--limit`. Where an
    answer is missing or could not be judged there is no headline, and the numbers over the rest stand under
    `partial_metrics` instead of `metrics`; so they do where there are `notes`. A run over the first samples alone that
    lacks nothing else is a subset: it may be compared with another one over the same samples, never quoted.

    Args:
        task: The benchmark.
        samples: All that were to be asked, also those that were not.
        answers: What is in `generations.jsonl`.
        scores: What is in `scores.jsonl`.
        num_repeats: Answers each sample must have.
        notes: Further reasons why this is not the whole benchmark.

    Raises:
        TaskError: a complete run without a column that the benchmark wants reported.
    """
    ordered = _in_order(samples, scores)
    judged = [score for score in ordered if score.passed is not None]
    counts = Counter(score.status for score in ordered)
    truncated = {(a.sample_id, a.repeat) for a in answers if a.finish_reason == "length"}
    truncated |= {(s.sample_id, s.repeat) for s in ordered if s.status == "truncated"}
    num_missing = len(samples) * num_repeats - len(ordered)
    num_errors, num_unjudged = counts["infra_error"], counts["unjudged"]
    reasons = list(notes)
    if num_missing:
        reasons.append(f"{num_missing} of {len(samples) * num_repeats} answers are missing")
    if num_errors:
        reasons.append(f"{num_errors} answers met an infrastructure error; run the same command again to retry them")
    if num_unjudged:
        reasons.append(f"{num_unjudged} answers could not be judged")
    columns = {name: asdict(estimate) for name, estimate in task.summarise(judged).items()} if judged else {}
    columns_at_k = {f"pass@{k}": asdict(value) for k, value in _pass_at_k(samples, judged, num_repeats).items()}
    is_complete = not reasons
    is_subset = bool(notes) and reasons == list(notes) and all(note.startswith(LIMITED) for note in notes)
    headline = next(iter(columns), None) if is_complete else None
    if headline is not None and (absent := [name for name in task.reported if name not in list(columns)[1:]]):
        raise TaskError(
            f"{task.name}: `reported` names {absent}; `summarise` gives, below its headline: {list(columns)[1:]}."
        )
    return {
        "schema_version": SCHEMA_VERSION,
        "task": task.name,
        "domain": task.domain,
        "protocol": task.protocol,
        "n": len(samples),
        "num_repeats": num_repeats,
        "n_scored": len(ordered),
        "n_missing": num_missing,
        "n_errors": num_errors,
        "n_unjudged": num_unjudged,
        "n_truncated": len(truncated),
        "statuses": dict(sorted(counts.items())),
        "is_complete": is_complete,
        "incomplete_because": reasons,
        "is_subset": is_subset,
        "headline": None if headline is None else {"name": headline, **columns[headline]},
        "reported": list(task.reported),
        "metrics" if is_complete else "partial_metrics": columns,
        "pass_at_k" if is_complete else "partial_pass_at_k": columns_at_k,
    }


def summarise_problems(
    task: Task, samples: Sequence[Sample], scores: Collection[Score], metrics: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The content of `problems.json`: what the headline (of a subset the first column) is the mean of; None without it.

    Args:
        task: The benchmark.
        samples: All its samples.
        scores: What is in `scores.jsonl`.
        metrics: What `summarise_run` made of them.

    Raises:
        TaskError: the problems' mean is not the headline, or its interval is over something else.
    """
    headline = metrics["headline"]
    if headline is None and metrics["is_subset"] and metrics["partial_metrics"]:
        name, column = next(iter(metrics["partial_metrics"].items()))
        headline = {"name": name, **column}
    if headline is None:
        return None
    problems = task.problem_scores(_in_order(samples, scores))
    try:
        check_mean(problems, headline["value"], headline["num_items"])
    except ValueError as error:
        raise TaskError(
            f"{task.name}: `problem_scores` contradicts the headline {headline['name']!r} of `summarise`: {error}. "
            "Make both count the same problems; nothing was written."
        ) from error
    return {"schema_version": SCHEMA_VERSION, "headline": headline["name"], "problems": problems}


def _in_order(samples: Sequence[Sample], scores: Collection[Score]) -> list[Score]:
    position = {sample.sample_id: index for index, sample in enumerate(samples)}
    return sorted(scores, key=lambda score: (position[score.sample_id], score.repeat))


def _pass_at_k(samples: Sequence[Sample], judged: Sequence[Score], num_repeats: int) -> Mapping[int, Estimate]:
    """For each k that every judged sample has answers enough for."""
    problems = {sample.sample_id: sample.unit for sample in samples}
    passes: dict[str, list[bool]] = {}
    for score in judged:
        passes.setdefault(score.sample_id, []).append(bool(score.passed))
    fewest = min((len(outcomes) for outcomes in passes.values()), default=0)
    ks = sorted(k for k in {*_KS, num_repeats} if k <= min(fewest, num_repeats))
    return {k: pass_at_k_share(passes, problems, k) for k in ks}
