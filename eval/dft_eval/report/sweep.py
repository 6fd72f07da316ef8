"""A grid's arms by the value that was varied (Figure 3 of arXiv 2508.05629), and which of them is SFT at its best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dft_eval.metrics import Estimate
from dft_eval.report.arms import About
from dft_eval.report.charts import roles
from dft_eval.report.comparison import Comparison
from dft_eval.report.document import Cell, Figure, Section, Table
from dft_eval.report.figures import Panel, Series, draw_curves
from dft_eval.report.joining import SFT
from dft_eval.report.wording import interval, percent, setting

_NOTE = (
    "Mean over all benchmarks, each counting alike, with its 95% interval. The best of a grid by the benchmarks that "
    "judge it looks better than it is: decide between values on other data."
)


@dataclass(frozen=True)
class Point:
    """One combination of a grid.

    Attributes:
        arm: Its arm.
        grid_of: The arm of the study whose grid it is of.
        values: By key.
        mean: Over all benchmarks; None where one is missing or partial.
    """

    arm: str
    grid_of: str
    values: Mapping[str, Any]
    mean: Estimate | None


def find_points(comparison: Comparison, abouts: Sequence[About]) -> list[Point]:
    """Every combination, grid by grid in rising order of its numbers."""
    found = {about.arm: about for about in abouts if about.grid_of is not None}
    points = [
        Point(arm, str(about.grid_of), dict(about.content["grid"]["values"]), comparison.mean(comparison.tasks, arm))
        for arm, about in found.items()
    ]
    return sorted(points, key=lambda point: (point.grid_of, [_number(value) or 0.0 for value in point.values.values()]))


def sweep_section(comparison: Comparison, points: Sequence[Point]) -> Section:
    """All combinations in a table, and a figure for each key with several numbers."""
    keys = list(dict.fromkeys(key for point in points for key in point.values))
    best = {
        name: max(whole, key=lambda pair: pair[0])[1]
        for name in dict.fromkeys(point.grid_of for point in points)
        if (whole := [(p.mean.value, p.arm) for p in points if p.grid_of == name and p.mean is not None])
    }
    rows = tuple(
        (
            Cell(point.grid_of, "best of its grid" if best.get(point.grid_of) == point.arm else ""),
            *(Cell(setting(point.values.get(key, "-"))) for key in keys),
            _mean_cell(point.mean),
        )
        for point in points
    )
    said = (
        f"SFT stands here at its own best: {comparison.sft}, chosen by the mean over these benchmarks, which favours "
        "it against the others."
    )
    figures = tuple(figure for key in keys for figure in _figure(comparison, points, key))
    paragraphs = () if comparison.sft in (None, SFT) else (said,)
    return Section("Sweep", paragraphs, (Table(("Arm", *keys, "mean"), rows, _NOTE, "Every combination"),), figures)


def _figure(comparison: Comparison, points: Sequence[Point], key: str) -> tuple[Figure, ...]:
    lines: dict[tuple[str, str], dict[float, float]] = {}
    for point in points:
        value = _number(point.values.get(key))
        if point.mean is None or value is None:
            continue
        others = ", ".join(f"{name} {setting(each)}" for name, each in point.values.items() if name != key)
        lines.setdefault((point.grid_of, others), {})[value] = 100 * point.mean.value
    places = sorted({value for line in lines.values() for value in line})
    if len(places) < 2:
        return ()
    colours = roles([comparison.baseline, *(name for name, _ in lines if name != comparison.baseline)])
    series = [
        Series(
            ", ".join(filter(None, (name, others))),
            [line[value] for value in sorted(line)],
            colours[name],
            tuple(sorted(line)),
        )
        for (name, others), line in lines.items()
        if name in colours
    ]
    base = comparison.mean(comparison.tasks, comparison.baseline)
    if base is not None and comparison.baseline not in {point.arm for point in points}:
        ends = (places[0], places[-1])
        series.append(Series(comparison.baseline, [100 * base.value] * 2, "reference", ends))
    panel = Panel("mean over the benchmarks (%)", key, tuple(series), is_log_x=places[0] > 0)
    return (Figure(f"By {key}", "Means over the seeds; intervals are in the table.", draw_curves(panel)),)


def _mean_cell(mean: Estimate | None) -> Cell:
    if mean is None:
        return Cell("-", "a benchmark not run, or partial")
    return Cell(percent(mean.value), interval(mean))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
