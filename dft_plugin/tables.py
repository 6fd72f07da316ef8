"""Tables that the commands print for a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from dft_plugin.doctor import Diagnosis


def print_objectives(rows: Iterable[Mapping[str, Any]]) -> None:
    """One block an objective: its name, then weight, options, source and advice below each other."""
    table = Table("loss_type", "loss = -sg(w) log p", show_lines=True)
    table.columns[0].no_wrap = True
    for row in rows:
        options = ", ".join(f"{key}={value}" for key, value in row["options"].items())
        lines = [row["formula"], *([f"options: {options}"] if options else []), row["source"], f"for: {row['advice']}"]
        table.add_row(row["name"], "\n".join(lines))
    Console().print(table)


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """Versions, then everything probed with its verdict."""
    console = Console()
    versions = Table("package", "version", title="versions")
    for name, found in diagnosis.versions.items():
        versions.add_row(name, found or "not installed")
    for name, entry in diagnosis.frameworks.items():
        note = "" if entry["is_tested"] or entry["found"] is None else f" (tested: {entry['tested']})"
        versions.add_row(name, (entry["found"] or "not installed") + note)
    console.print(versions)
    probes = Table("probe", "verdict", "detail", title="probes")
    rows = [(f"{name}: {p['name']}", p) for name, entry in diagnosis.frameworks.items() for p in entry["probes"]]
    rows += [(f"code evaluation: {p.name}", {"passed": p.passed, "detail": p.detail}) for p in diagnosis.sandboxes]
    rows += [(check.name, {"passed": check.passed, "detail": check.detail}) for check in diagnosis.checks]
    for label, probe in rows:
        probes.add_row(label, "[green]ok[/]" if probe["passed"] else "[red]no[/]", probe["detail"])
    console.print(probes)
