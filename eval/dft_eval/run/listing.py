"""Tables that `dft eval` prints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dft_eval.errors import MissingPrerequisite
from dft_eval.run.fetch import locate_data
from dft_eval.run.selection import Catalog

_WIDTH = 80
_FETCH = "dft eval fetch "


def list_catalog(catalog: Catalog) -> list[dict[str, Any]]:
    """Return one row a benchmark, with what it lacks on this machine."""
    rows = []
    for name, kind in catalog.items():
        lacks, commands = [], []
        try:
            locate_data(name, kind.data_files)
        except MissingPrerequisite as error:
            lacks.append(str(error))
            commands.append(f"dft eval fetch {name}")
        for missing in kind(Path(), kind.protocols[0]).missing():
            lacks.append(f"{missing.what}: {missing.install}")
            commands.append(missing.install)
        rows.append(
            {
                "name": name,
                "domain": kind.domain,
                "protocols": list(kind.protocols),
                "is_ready": not lacks,
                "missing": lacks,
                "commands": commands,
            }
        )
    return rows


def format_catalog(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return one line of at most 80 columns for each benchmark, then the commands that make the others ready."""
    commands = list(dict.fromkeys(c for row in rows for c in row["commands"] if not c.startswith(_FETCH)))
    lines = [("task", "domain", "protocols", "ready")]
    for row in rows:
        needs = ["fetch"] if any(c.startswith(_FETCH) for c in row["commands"]) else []
        needs += [f"[{commands.index(c) + 1}]" for c in row["commands"] if not c.startswith(_FETCH)]
        lines.append((row["name"], row["domain"], " ".join(row["protocols"]), " ".join(needs) or "yes"))
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    widths[2] = min(widths[2], _WIDTH - widths[0] - widths[1] - widths[3] - 6)
    text = [
        f"{name:<{widths[0]}}  {domain:<{widths[1]}}  {_shorten(protocols, widths[2]):<{widths[2]}}  {ready}"
        for name, domain, protocols, ready in lines
    ]
    if any(row["commands"] and row["commands"][0].startswith(_FETCH) for row in rows):
        text += ["", "fetch: dft eval fetch TASK"]
    text += [f"[{number}]: {command}" for number, command in enumerate(commands, start=1)]
    return "\n".join(text)


def _shorten(protocols: str, width: int) -> str:
    """Whole names only; those that do not fit are counted."""
    names = protocols.split(" ")
    for num_shown in range(len(names), 0, -1):
        shown = " ".join(names[:num_shown]) + (f" +{len(names) - num_shown}" if num_shown < len(names) else "")
        if len(shown) <= width:
            return shown
    return names[0]


def print_metrics(runs: Iterable[Mapping[str, Any]]) -> None:
    """Print each number with its interval; what is partial says so."""
    table = Table("task", "protocol", "metric", "value", "95% interval", "n", "partial because")
    for run in runs:
        columns = run.get("metrics", run.get("partial_metrics", {}))
        because = "; ".join(run["incomplete_because"])
        for name, value in columns.items() or [("-", None)]:
            shown = "-" if value is None else f"{100 * value['value']:.2f}%"
            has_interval = value is not None and value["low"] is not None
            interval = f"{100 * value['low']:.2f} - {100 * value['high']:.2f}" if has_interval else "-"
            partial = f"PARTIAL: {because}" if because else ""
            table.add_row(run["task"], run["protocol"], name, shown, interval, str(run["n"]), partial)
    Console().print(table)


def format_grades(summary: Mapping[str, Any]) -> str:
    """Show the summary of graded answers: the share that passed, and a line for each status."""
    share = f"{100 * summary['pass_rate']:.1f}%" if summary["pass_rate"] is not None else "-"
    lines = [f"{summary['passed']} of {summary['total']} passed ({share}) by the rules {summary['rules']!r}"]
    lines += [f"  {status:<14} {count}" for status, count in summary["statuses"].items()]
    return "\n".join(lines)
