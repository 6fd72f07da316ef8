"""Differences with their intervals, a row a benchmark (a forest plot)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib import rc_context
from matplotlib.figure import Figure as Canvas

from dft_eval.report.figures import COLOURS, NARROW, RC, WIDE, Role, to_svg


@dataclass(frozen=True)
class Interval:
    """One difference.

    Attributes:
        label: The arm.
        value: Its difference.
        low: Lower end of the interval; None where there is none.
        high: Upper end.
        role: Its colour.
        is_decided: Whether the mark is filled.
    """

    label: str
    value: float
    low: float | None
    high: float | None
    role: Role
    is_decided: bool


@dataclass(frozen=True)
class Row:
    """One benchmark.

    Attributes:
        label: Its name.
        intervals: An arm each.
    """

    label: str
    intervals: tuple[Interval, ...]


def draw_forest(rows: Sequence[Row], x_label: str) -> tuple[str, str]:
    """Intervals as lines, values as marks, 0 as a line, the first row on top; wide and narrow."""
    return _forest(rows, x_label, WIDE, 5), _forest(rows, x_label, NARROW, 2)


def _forest(rows: Sequence[Row], x_label: str, width: float, num_columns: int) -> str:
    num_lines = sum(len(row.intervals) for row in rows) + len(rows)
    with rc_context(RC):
        canvas = Canvas(figsize=(width, 0.9 + 0.24 * num_lines), layout="constrained")
        axes = canvas.add_subplot()
        place, ticks, seen = 0.0, [], set()
        for row in rows:
            ticks.append(place + (len(row.intervals) - 1) / 2)
            for interval in row.intervals:
                colour = COLOURS[interval.role]
                if interval.low is not None and interval.high is not None:
                    axes.plot([interval.low, interval.high], [place, place], color=colour, linewidth=2.2)
                axes.plot(
                    interval.value,
                    place,
                    marker="o",
                    markersize=7,
                    color=colour,
                    markerfacecolor=colour if interval.is_decided else "none",
                    linestyle="none",
                    label=None if interval.label in seen else interval.label,
                )
                seen.add(interval.label)
                place += 1
            place += 1
        axes.axvline(0, color=RC["text.color"], linewidth=0.9)
        axes.set_yticks(ticks, [row.label for row in rows])
        axes.set_ylim(place - 0.6, -0.8)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(x_label)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=min(num_columns, len(seen)), fontsize=10)
        return to_svg(canvas)
