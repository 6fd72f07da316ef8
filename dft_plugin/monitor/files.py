"""The monitor's files in the output folder: a row per logging window, and at the end a page with the curves."""

from __future__ import annotations

import base64
import html
import importlib.util
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dft_plugin.run_record import write_whole

ROWS_NAME, FIGURE_NAME, PAGE_NAME = "dft_monitor.jsonl", "dft_monitor.png", "dft_monitor.html"

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a;
  background: #fff }
img { max-width: 100%; height: auto }
table { border-collapse: collapse } th, td { padding: .2rem .8rem .2rem 0; text-align: left;
  border-bottom: 1px solid #ccc } td + td { text-align: right; font-variant-numeric: tabular-nums }
li { margin: .4rem 0 }
"""
_MEANINGS = {
    "nll": "true mean NLL (nats)",
    "one_minus_p": "1 - mean(p)",
    "objective": "objective, mean of weight times NLL (nats)",
    "token_accuracy": "share of targets that no other token beat",
    "effective_tokens": "effective tokens (share)",
    "low_weight_tokens": "tokens with weight below 0.05 (share)",
    "weight": "mean weight",
    "entropy": "mean entropy (nats)",
    "kl": "mean KL(reference || model) (nats)",
}


class MonitorRows:
    """`dft_monitor.jsonl`: appended and flushed per row; a resumed run goes on behind the step it resumed from.

    Args:
        folder: The run's output folder.
        resumed_step: Optimiser step that the run resumed from; rows after it are dropped, all of them at 0.
        previous: Folder of the run that wrote the checkpoint, where it is another: its rows are taken over if
            `folder` has none.
        logger: For rows that cannot be read.

    Attributes:
        path: The file.
        rows: What it holds.
    """

    def __init__(
        self, folder: Path, *, resumed_step: int = 0, previous: Path | None = None, logger: logging.Logger
    ) -> None:
        self.path = folder / ROWS_NAME
        self.rows: list[dict[str, Any]] = []
        sources = [self.path, *([previous / ROWS_NAME] if previous is not None else [])]
        if resumed_step > 0 and (source := next((path for path in sources if path.exists()), None)) is not None:
            self.rows = [row for row in _read(source, logger) if row["step"] <= resumed_step]
        write_whole(self.path, "".join(_line(row) for row in self.rows))

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row through to the file."""
        self.rows.append(dict(row))
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(row))

    @property
    def training(self) -> list[dict[str, Any]]:
        """Rows of training windows."""
        return [row for row in self.rows if row["mode"] == "train"]


def write_page(folder: Path, rows: Sequence[Mapping[str, Any]], record: Mapping[str, Any]) -> str:
    """Write `dft_monitor.png` and `dft_monitor.html`.

    Args:
        folder: Where to.
        rows: Of `dft_monitor.jsonl`.
        record: The run's record, for the heading.

    Returns:
        What is missing and how to get it, in one line; empty where nothing is.
    """
    problem, figure = "", b""
    if importlib.util.find_spec("matplotlib") is None:
        problem = f"dft: {FIGURE_NAME} was not drawn, because matplotlib is not installed: pip install matplotlib"
    else:
        from dft_plugin.monitor.figure import draw_curves

        figure = draw_curves(rows)
        (folder / FIGURE_NAME).write_bytes(figure)
    (folder / PAGE_NAME).write_text(_page(rows, record, figure, problem), encoding="utf-8")
    return problem


def _page(rows: Sequence[Mapping[str, Any]], record: Mapping[str, Any], figure: bytes, problem: str) -> str:
    last = {row["mode"]: row for row in rows if row["means"]}
    names = [name for name in _MEANINGS if any(name in row["means"] for row in last.values())]
    alarms = [alarm for row in rows for alarm in row.get("alarms", [])]
    numbered = "".join(
        f"<li><b>{html.escape(alarm['kind'])}</b> at step {alarm['step']}: {html.escape(alarm['message'])} "
        f"Try: {html.escape(alarm['advice'])}</li>"
        for alarm in alarms
    )
    image = (
        f'<img alt="Curves of the run" src="data:image/png;base64,{base64.b64encode(figure).decode()}">'
        if figure
        else f"<p>{html.escape(problem)}</p>"
    )
    heads = "".join(f"<th>{html.escape(mode)}, step {row['step']}</th>" for mode, row in last.items())
    body = "".join(
        f"<tr><td>{_MEANINGS[name]}</td>{''.join(_cell(row['means'].get(name)) for row in last.values())}</tr>"
        for name in names
    )
    title = html.escape(f"{record.get('loss_type', 'loss')}: training monitor")
    facts = ", ".join(
        f"{key} {record[key]}" for key in ("framework", "framework_version", "stage", "path") if key in record
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n<p>{html.escape(facts)}</p>\n"
        f"<h2>Alarms</h2>\n{f'<ol>{numbered}</ol>' if alarms else '<p>None.</p>'}\n"
        f"<h2>Curves</h2>\n{image}\n"
        f"<h2>Last window</h2>\n<table><tr><th>mean over tokens</th>{heads}</tr>{body}</table>\n"
        f"<p>Every window is in {ROWS_NAME}.</p>\n</body></html>\n"
    )


def _cell(value: float | None) -> str:
    return "<td>not measured</td>" if value is None else f"<td>{value:.4g}</td>"


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row) + "\n"


def _read(path: Path, logger: logging.Logger) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            logger.warning("dft: line %s of %s is cut off or no JSON; dropped", number, path)
    return rows
