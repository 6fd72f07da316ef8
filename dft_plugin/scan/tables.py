"""A scan's result for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_scan(result: Mapping[str, Any], console: Console | None = None) -> None:
    """Datasets, token classes, the verdict with its reason, and what to paste."""
    console = console or Console()
    rows = [(name, row, row["forecast"]) for name, row in result["datasets"].items()]
    rows.append(("total", result["total"], result["forecast"]))
    verdicts = Table("dataset", "mean p", "content", "p < 0.05", "EOS p", "verdict", title="what the base model knows")
    counts = Table("dataset", "samples", "tokens", "NLL", "p > 0.95", "effective", title="its targets")
    for name, row, verdict in rows:
        verdicts.add_row(
            Text(name),
            f"{row['mean_p']:.3f}",
            f"{row['content']['mean_p']:.3f}",
            f"{row['share_p_below_0.05']:.1%}",
            "-" if row["eos_mean_p"] is None else f"{row['eos_mean_p']:.3f}",
            f"{verdict['verdict']} ({verdict['confidence']})",
        )
        counts.add_row(
            Text(name),
            f"{row['num_measured']}/{row['num_samples']}",
            f"{row['num_tokens']:,}",
            f"{row['nll']:.3f}",
            f"{row['share_p_above_0.95']:.1%}",
            f"{row['effective_tokens']:.1%}",
        )
    console.print(verdicts)
    console.print(counts)
    classes = Table("dataset", "token class", "tokens", "mean p", "NLL", "p < 0.05", "p > 0.95", title="by token class")
    for name, row in result["datasets"].items():
        for label, entry in row["classes"].items():
            classes.add_row(
                Text(name),
                label,
                f"{entry['num_tokens']:,}",
                f"{entry['mean_p']:.3f}",
                f"{entry['nll']:.3f}",
                f"{entry['share_p_below_0.05']:.1%}",
                f"{entry['share_p_above_0.95']:.1%}",
            )
    console.print(classes)
    forecast, measured = result["forecast"], result["measured"]
    reason = f" ({measured['path_reason']})" if measured["path_reason"] else ""
    lines = [
        f"forecast: {forecast['verdict']}, confidence {forecast['confidence']}, on {forecast['num_samples']} samples. "
        f"{forecast['confidence_reason']}",
        f"why: {forecast['reason']}",
        forecast["heuristic"],
        *result["notes"],
        f"measured on the {measured['path']} path{reason} in {measured['dtype']}; figure: {result['figure']}",
        "",
        "LLaMA-Factory YAML:",
        forecast["yaml"].rstrip(),
        "",
        f"ms-swift: {forecast['ms_swift']}",
    ]
    console.print(Text("\n".join(lines)), soft_wrap=True)
