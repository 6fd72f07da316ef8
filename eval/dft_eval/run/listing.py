"""What `dft eval` prints for a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dft_eval.errors import MissingPrerequisite
from dft_eval.run.fetch import locate_data
from dft_eval.run.selection import Catalog


def list_catalog(catalog: Catalog) -> list[dict[str, Any]]:
    """One row a benchmark, with what it lacks on this machine."""
    rows = []
    for name, kind in catalog.items():
        lacks = []
        try:
            locate_data(name, kind.data_files)
        except MissingPrerequisite as error:
            lacks.append(str(error))
        lacks += [f"{missing.what}: {missing.install}" for missing in kind(Path(), kind.protocols[0]).missing()]
        rows.append(
            {
                "name": name,
                "domain": kind.domain,
                "protocols": list(kind.protocols),
                "is_ready": not lacks,
                "missing": lacks,
            }
        )
    return rows


def print_catalog(rows: Iterable[Mapping[str, Any]]) -> None:
    """A table."""
    table = Table("task", "domain", "protocols", "ready here")
    for row in rows:
        table.add_row(
            row["name"],
            row["domain"],
            ", ".join(row["protocols"]),
            "yes" if row["is_ready"] else "\n".join(row["missing"]),
        )
    Console().print(table)


def print_metrics(runs: Iterable[Mapping[str, Any]]) -> None:
    """A table, each number with its interval; what is partial says so."""
    table = Table("task", "protocol", "metric", "value", "95% interval", "n", "what is missing")
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
