"""A comparison's accounts: what went wrong with the answers, and what training and evaluation cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dft_eval.report.arms import About
from dft_eval.report.comparison import Comparison, Scores
from dft_eval.report.document import Cell, Table

_STATUSES = ("truncated", "no_answer", "timeout", "unjudged", "infra_error")


def error_table(comparison: Comparison) -> Table:
    """Answers that were cut off, empty, not judged or lost, by benchmark and arm."""
    rows: list[tuple[Cell, ...]] = []
    for task in comparison.tasks:
        rows.append((Cell(task), *(Cell("") for _ in range(len(_STATUSES) + 2))))
        found = ((arm, comparison.grid.get((task, arm))) for arm in comparison.arms)
        rows += [_error_row(arm, scores) for arm, scores in found if scores is not None]
    heads = ("truncated", "no answer", "timeout", "unjudged", "infrastructure", "missing")
    note = (
        "Answers over all seeds, with their share of those that are there; missing ones of those asked. Truncated ones "
        "may still be right; unjudged, infrastructure and missing ones make a run partial."
    )
    return Table(("Benchmark", "judged", *heads), tuple(rows), note, "Answers that could not be counted on")


def _error_row(arm: str, scores: Scores) -> tuple[Cell, ...]:
    counts: Counter[str] = Counter()
    for run in scores.runs.values():
        counts.update(dict(run.metrics["statuses"]) | {"truncated": run.metrics["n_truncated"]})
        counts["missing"] += run.metrics["n_missing"]
    judged = sum(run.num_judged for run in scores.runs.values())
    there = judged + counts["unjudged"] + counts["infra_error"]
    cells = (_count_cell(counts[status], there) for status in _STATUSES)
    missing = _count_cell(counts["missing"], there + counts["missing"])
    return (Cell(arm, is_part=True), Cell(str(judged)), *cells, missing)


def cost_table(abouts: Sequence[About], arms: Sequence[str]) -> Table | None:
    """Time and tokens of training, time of evaluation, a row a model in the arms' order; None where nothing says so."""
    rows = []
    for about in sorted((each for each in abouts if each.arm in arms), key=lambda each: arms.index(each.arm)):
        content = about.content
        if content.get("wall_s") is None and content.get("evaluation_wall_s") is None:
            continue
        tokens = sum(int(row.get("tokens", 0)) for row in about.monitor_rows)
        rows.append(
            (
                Cell(about.name, str(about.content.get("framework") or "")),
                Cell("-") if content.get("wall_s") is None else Cell(_loss_of(about), _rate_of(about)),
                _time_cell(content, ""),
                Cell(f"{tokens:,}" if tokens else "-"),
                _time_cell(content, "evaluation_"),
            )
        )
    if not rows:
        return None
    note = (
        "Wall time of the commands, imports included, and the CPU time of all their cores; target tokens as the "
        "monitor counted them. Of a command that was interrupted and went on, its last call's time: at least so much."
    )
    return Table(("Model", "loss", "training", "tokens", "evaluation"), tuple(rows), note, "Cost")


def _time_cell(content: Mapping[str, Any], prefix: str) -> Cell:
    wall, cpu = content.get(f"{prefix}wall_s"), content.get(f"{prefix}cpu_s")
    if wall is None:
        return Cell("-")
    least = "at least " if content.get(f"{prefix}is_resumed") else ""
    return Cell(f"{least}{wall:,.0f} s", "" if cpu is None else f"CPU {cpu:,.0f} s")


def _loss_of(about: About) -> str:
    return str(about.content.get("loss_type") or "the framework's own")


def _rate_of(about: About) -> str:
    rate = about.content.get("learning_rate")
    return "" if rate is None else f"learning rate {rate:g}"


def _count_cell(count: int, asked: int) -> Cell:
    return Cell(str(count), f"{100 * count / asked:.1f}%" if count else "")
