"""The result of `dft dynamics` as CSV, and for a person."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dft_plugin.run_record import write_whole

LIKELIHOOD = {"nll": "held-out nll", "one_minus_p": "1 - mean p"}
"""Measures that are better the lower they are."""


def series_of(run: Mapping[str, Any]) -> dict[str, list[tuple[int, Mapping[str, Any]]]]:
    """Steps and estimates of each measure of a run, benchmarks first; without points that have no value."""
    points = run["points"]
    found = {
        task: [(point["step"], point["tasks"][task]) for point in points if point["tasks"][task]["value"] is not None]
        for task in points[0]["tasks"]
    }
    for key in LIKELIHOOD:
        if key in points[0]:
            found[key] = [(point["step"], point[key]) for point in points]
    return found


def write_csv(result: Mapping[str, Any], path: Path) -> None:
    """One line a run, step and measure, whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "step", "measure", "value", "low", "high", "num_items"])
    for run in result["runs"]:
        for measure, points in series_of(run).items():
            for step, one in points:
                writer.writerow(
                    [run["name"], step, measure, *(one[key] for key in ("value", "low", "high")), one["num_items"]]
                )
    write_whole(path, text.getvalue())


def print_dynamics(result: Mapping[str, Any], console: Console | None = None) -> None:
    """First, best and last checkpoint of each run, and how to read them."""
    console = console or Console()
    table = Table("run", "measure", "step 0", "best (selected)", "last", "last - step 0", title="by training step")
    for run in result["runs"]:
        for measure, points in series_of(run).items():
            if points:
                table.add_row(*_row(run, measure, points))
    console.print(table)
    console.print(Text("\n".join([*_missing(result), *result["notes"], f"figure: {result['figure']}"])), soft_wrap=True)


def _row(run: Mapping[str, Any], measure: str, points: list[tuple[int, Mapping[str, Any]]]) -> list[Text]:
    pick = min if measure in LIKELIHOOD else max
    best = pick(points, key=lambda point: point[1]["value"])
    (first_step, first), (last_step, last) = points[0], points[-1]
    difference = last.get("from_step_0")
    change = f"{last['value'] - first['value']:+.3f}"
    if difference is not None:
        change = (
            f"{difference['value']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}] "
            + (difference["verdict"])
        )
    return [
        Text(text)
        for text in (
            run["name"],
            LIKELIHOOD.get(measure, measure),
            _shown(first) if first_step == 0 else "-",
            f"{_shown(best[1])} at {best[0]}",
            f"{_shown(last)} at {last_step}",
            change if first_step == 0 and last_step else "-",
        )
    ]


def _shown(one: Mapping[str, Any]) -> str:
    if one["low"] is None:
        return f"{one['value']:.3f}"
    return f"{one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"


def _missing(result: Mapping[str, Any]) -> Iterator[str]:
    """Points without a value, and why."""
    for run in result["runs"]:
        for point in run["points"]:
            for task, one in point["tasks"].items():
                if one["value"] is None:
                    yield f"NO SCORE: {run['name']}, step {point['step']}, {task}: {'; '.join(one['because'])}"
