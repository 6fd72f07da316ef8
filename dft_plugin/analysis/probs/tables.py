"""The result of `dft probs` for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

_MOST_TOKENS = 8


def print_probs(result: Mapping[str, Any], console: Console | None = None) -> None:
    """Checkpoints, classes, what changed, and the lowest bin."""
    console = console or Console()
    checkpoints = result["checkpoints"]
    title = f"the same {result['num_tokens']:,} tokens through each checkpoint"
    summary = Table("checkpoint", "mean p", "NLL", "p < 0.05", "p > 0.95", title=title)
    for one in checkpoints:
        summary.add_row(Text(one["name"]), *_means(one))
    console.print(summary)
    classes = Table("token class", "tokens", *(one["name"] for one in checkpoints), title="mean p by token class")
    for label, entry in checkpoints[0]["by_class"].items():
        found = (f"{one['by_class'][label]['mean_p']:.3f}" for one in checkpoints)
        classes.add_row(label, f"{entry['num_tokens']:,}", *found)
    console.print(classes)
    kinds = Table("kind of word", "all tokens", *(one["name"] for one in checkpoints), title="tokens of p < 0.05")
    for kind, entry in checkpoints[0]["lowest_bin_kinds"].items():
        found = (_share(one["lowest_bin_kinds"][kind]["share_of_bin"]) for one in checkpoints)
        kinds.add_row(kind, _share(entry["share_of_all"]), *found)
    console.print(kinds)
    lines = []
    for one in checkpoints:
        tokens = ", ".join(f"{entry['token']!r} {entry['count']}" for entry in one["lowest_bin"][:_MOST_TOKENS])
        lines.append(f"{one['name']}: commonest tokens of p < 0.05: {tokens or 'none'}")
    for shift in result["shifts"]:
        tokens = ", ".join(
            f"{entry['token']!r} {entry['summed_change_of_p']:+.2f}" for entry in shift["tokens"][:_MOST_TOKENS]
        )
        change = f"{shift['mean_change_of_p']:+.4f}"
        lines.append(f"{shift['checkpoint']} against {shift['against']}: mean change of p {change}; most: {tokens}")
    console.print(Text("\n".join([*lines, *result["notes"], f"figure: {result['figure']}"])), soft_wrap=True)


def _means(one: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        _with_interval(one["mean_p"], one["mean_p_interval"]),
        _with_interval(one["mean_nll"], one["mean_nll_interval"]),
        f"{one['share_below_0.05']:.1%}",
        f"{one['share_above_0.95']:.1%}",
    )


def _with_interval(value: float, ends: list[float] | None) -> str:
    return f"{value:.3f}" if ends is None else f"{value:.3f} ±{(ends[1] - ends[0]) / 2:.3f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
