"""The histogram of a scan as a PNG; a bare `Figure` draws with Agg, whatever backend is set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from dft_plugin.scan.forecast import Forecast


def draw_scan(histograms: Mapping[str, Sequence[int]], forecasts: Mapping[str, Forecast], path: Path) -> None:
    """One panel a dataset: the share of its target tokens in each bin of p.

    Args:
        histograms: Counts in equal bins of [0, 1], by dataset.
        forecasts: The verdict on each, for the title.
        path: The PNG.
    """
    figure = Figure(figsize=(7.2, 1.0 + 2.1 * len(histograms)), layout="constrained")
    panels = figure.subplots(len(histograms), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, counts) in zip(panels, histograms.items(), strict=True):
        num_tokens, width = sum(counts), 1 / len(counts)
        lefts = [index * width for index in range(len(counts))]
        axes.bar(lefts, [count / num_tokens for count in counts], width * 0.9, align="edge", color="#2f86d6")
        one = forecasts[name]
        axes.set_title(
            f"{name}: {one.verdict} ({one.confidence} confidence), {num_tokens:,} tokens", loc="left", fontsize=10
        )
        axes.set_ylabel("share of tokens")
        axes.set_xlim(0, 1)
        axes.grid(axis="y", alpha=0.2)
    panels[-1].set_xlabel("probability the base model gives to the target token")
    figure.savefig(path, format="png", dpi=150)
