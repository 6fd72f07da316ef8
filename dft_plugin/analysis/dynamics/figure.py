"""Figure 1 as a PNG: each measure by training step, one line a run, with its band."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from dft_plugin.analysis.dynamics.tables import LIKELIHOOD, series_of
from dft_plugin.analysis.probs.figure import COLOURS, LINES

MARKERS = "os^DvPX*"
_COLUMNS = 3


def draw_dynamics(result: Mapping[str, Any], path: Path) -> None:
    """The picture, written whole or not at all.

    Args:
        result: The content of `dynamics.json`.
        path: The PNG.
    """
    series = {run["name"]: series_of(run) for run in result["runs"]}
    measures = list(dict.fromkeys(measure for of_run in series.values() for measure in of_run))
    num_columns = min(_COLUMNS, len(measures))
    num_rows = -(-len(measures) // num_columns)
    figure = Figure(figsize=(0.6 + 4.4 * num_columns, 0.8 + 3.4 * num_rows), layout="constrained")
    panels = figure.subplots(num_rows, num_columns, squeeze=False).reshape(-1)
    for axes, measure in zip(panels, measures, strict=False):
        for index, of_run in enumerate(series.values()):
            _draw_line(axes, of_run.get(measure, []), index + 1)
        axes.set_title(LIKELIHOOD.get(measure, measure), loc="left", fontsize=11)
        axes.set_xlabel("training step (0: base)")
        if measure not in LIKELIHOOD:
            axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
    for axes in panels[len(measures) :]:
        axes.set_visible(False)
    handles = panels[0].get_lines()
    figure.legend(
        handles, list(series), loc="outside upper center", ncols=min(4, len(series)), frameon=False, fontsize=10
    )
    temporary = path.with_name(path.name + ".tmp")
    figure.savefig(temporary, format="png", dpi=150)
    temporary.replace(path)


def _draw_line(axes: Any, points: list[tuple[int, Mapping[str, Any]]], index: int) -> None:
    style = index % len(COLOURS)
    steps = [step for step, _ in points]
    axes.plot(
        steps,
        [one["value"] for _, one in points],
        color=COLOURS[style],
        linestyle=LINES[style],
        marker=MARKERS[style],
        markersize=5,
        linewidth=1.8,
    )
    banded = [(step, one["low"], one["high"]) for step, one in points if one["low"] is not None]
    if banded:
        axes.fill_between(*zip(*banded, strict=True), color=COLOURS[style], alpha=0.13, linewidth=0)
