"""Figures for reports: inline SVG that follows the page's text colour, light or dark.

Colours are safe for colour-blind readers, and every series differs in its line style too.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

Role = Literal["reference", "first", "second", "third", "fourth", "fifth", "sixth", "seventh"]

COLOURS: dict[Role, str] = {
    "reference": "#8a919c",
    "first": "#e07b2a",
    "second": "#2f86d6",
    "third": "#23a08a",
    "fourth": "#a45ec9",
    "fifth": "#b8932a",
    "sixth": "#d3527f",
    "seventh": "#6d7f3c",
}
_STYLES: dict[Role, Any] = {
    "reference": (0, (1, 1.2)),
    "first": (0, (5, 1.6)),
    "second": "solid",
    "third": "dashdot",
    "fourth": (0, (3, 1, 1, 1, 1, 1)),
    "fifth": (0, (7, 2)),
    "sixth": (0, (2, 1)),
    "seventh": (0, (9, 1.5, 2, 1.5)),
}
# inches; a point of type is a pixel where a page, and a narrow screen, show them
WIDE, NARROW = 9.6, 4.6
_INK = "#010203"  # replaced by the page's text colour
RC: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "dft report",  # else ids are random, and so is their order
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


@dataclass(frozen=True)
class Series:
    """A line or a set of bars.

    Attributes:
        label: In the legend.
        values: y values.
        role: Its colour and line style.
        steps: x values of a line; empty for 1, 2, 3, ...
    """

    label: str
    values: Sequence[float]
    role: Role
    steps: tuple[float, ...] = ()


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        y_label: Above the axes, on the left.
        x_label: Below them.
        series: What is drawn.
        is_log: Whether y is logarithmic.
        is_log_x: Whether x is; its values are few then, and marked.
    """

    y_label: str
    x_label: str
    series: tuple[Series, ...]
    is_log: bool = False
    is_log_x: bool = False


def draw_curves(panel: Panel, *, smooth: int = 1) -> str:
    """Lines, x the steps, by default from 1.

    Args:
        panel: What to draw.
        smooth: Width of a trailing mean; the raw values stay visible as a thin line where it is above 1.
    """
    with rc_context(RC):
        canvas = Canvas(figsize=(5.2, 3.1), layout="constrained")
        axes = canvas.add_subplot()
        for series in panel.series:
            steps = series.steps or tuple(range(1, len(series.values) + 1))
            colour = COLOURS[series.role]
            if smooth > 1:
                axes.plot(steps, series.values, color=colour, alpha=0.22, linewidth=0.8)
            smoothed = _trailing_mean(series.values, smooth)
            marker = "o" if panel.is_log_x else ""
            axes.plot(steps, smoothed, color=colour, linestyle=_STYLES[series.role], label=series.label, marker=marker)
        _finish(axes, panel)
        return to_svg(canvas)


def draw_histogram(panel: Panel) -> tuple[str, str]:
    """Grouped bars over equal bins of [0, 1], wide and narrow; values are shares, those below 1e-4 have no bar."""
    return _histogram(panel, WIDE), _histogram(panel, NARROW)


def _histogram(panel: Panel, width: float) -> str:
    with rc_context(RC):
        canvas = Canvas(figsize=(width, 3.3), layout="constrained")
        axes = canvas.add_subplot()
        num_bins, num_series = len(panel.series[0].values), len(panel.series)
        bar = 0.84 / num_bins / num_series
        for index, series in enumerate(panel.series):
            lefts = [bin_index / num_bins + 0.08 / num_bins + index * bar for bin_index in range(num_bins)]
            axes.bar(lefts, series.values, bar, align="edge", color=COLOURS[series.role], label=series.label)
        axes.set_xlim(0, 1)
        axes.set_ylim(1e-4, 1.6)
        _finish(axes, panel)
        axes.grid(visible=False, axis="x")
        return to_svg(canvas)


def _finish(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.y_label, loc="left", fontsize=11)
    axes.set_xlabel(panel.x_label)
    if panel.is_log_x:
        axes.set_xscale("log")
    if panel.is_log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(5))
    if len(panel.series) > 1:
        axes.legend(loc="upper center" if panel.is_log else "best", fontsize=10)


def _trailing_mean(values: Sequence[float], width: int) -> list[float]:
    windows = (values[max(0, end - width) : end] for end in range(1, len(values) + 1))
    return [sum(window) / len(window) for window in windows]


def to_svg(canvas: Canvas) -> str:
    """SVG text, the same bytes for the same figure, without metadata or a fixed size."""
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue().decode()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = _rename_ids(text)
    return text.replace(_INK, "currentColor")


def _rename_ids(svg: str) -> str:
    """Ids that cannot meet those of another figure of the page."""
    names = sorted(set(re.findall(r'\bid="([^"]+)"', svg)))
    prefix = hashlib.sha256(re.sub(r'(id="|#)[^"\)]+', r"\1", svg).encode()).hexdigest()[:8]
    new = {name: f"f{prefix}-{index}" for index, name in enumerate(names)}
    svg = re.sub(r'\bid="([^"]+)"', lambda match: f'id="{new[match[1]]}"', svg)
    return re.sub(r'(?<=[("])#([A-Za-z_][\w.-]*)', lambda match: f"#{new.get(match[1], match[1])}", svg)
