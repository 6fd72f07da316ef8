"""Scores of one checkpoint on one benchmark, with the problems they are over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dft_eval.metrics import check_mean, paired_difference
from dft_eval.records.store import parse_score
from dft_eval.tasks.base import Task
from dft_plugin.errors import InputError


@dataclass(frozen=True)
class Point:
    """One checkpoint on one benchmark.

    Attributes:
        estimate: Headline with its 95% interval over problems; None where answers are missing or unjudged.
        problems: Score of each problem.
        record: For dynamics.json.
        prompt_sha256: Of what was asked.
    """

    estimate: Mapping[str, Any] | None
    problems: Mapping[str, float]
    record: dict[str, Any]
    prompt_sha256: str


def read_point(folder: Path, metrics: Mapping[str, Any], task: Task) -> Point:
    """A finished run folder.

    Args:
        folder: Of `dft eval run`.
        metrics: Its metrics.json.
        task: The benchmark.

    Raises:
        InputError: the problems' scores do not give the headline.
    """
    settings = json.loads((folder / "run.json").read_text(encoding="utf-8"))["settings"]
    columns = metrics["metrics"] if metrics["is_complete"] else metrics["partial_metrics"]
    is_whole = not (metrics["n_missing"] or metrics["n_errors"] or metrics["n_unjudged"])
    record = {
        "run_folder": str(folder),
        "n_truncated": metrics["n_truncated"],
        "limit": settings["limit"],
        "num_repeats": metrics["num_repeats"],
    }
    if not (is_whole and columns):
        reasons = metrics["incomplete_because"]
        return Point(None, {}, {**record, "value": None, "because": reasons}, settings["prompt_sha256"])
    name, estimate = next(iter(columns.items()))
    lines = (folder / "scores.jsonl").read_bytes().splitlines()
    problems = task.problem_scores(sorted((parse_score(line) for line in lines), key=lambda s: (s.sample_id, s.repeat)))
    try:
        check_mean(problems, estimate["value"], estimate["num_items"])
    except ValueError as error:
        raise InputError(f"{folder}: scores.jsonl and metrics.json disagree: {error}; delete the folder.") from None
    return Point(estimate, problems, {**record, "metric": name, **estimate}, settings["prompt_sha256"])


def against(first: Point, point: Point) -> dict[str, Any] | None:
    """Paired difference from the first checkpoint on the same problems; None where one of them has no score."""
    if first.estimate is None or point.estimate is None:
        return None
    found = paired_difference(first.problems, point.problems)
    return {**asdict(found.estimate), "p_value": found.p_value, "verdict": found.verdict}
