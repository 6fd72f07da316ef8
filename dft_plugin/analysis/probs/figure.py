"""Figure 2 as a PNG: the share of target tokens in each of 20 bins of p, on a log scale, one colour a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

NUM_BINS = 20
# Colours of equal weight for readers who do not see red and green apart (Okabe and Ito); lines differ too.
COLOURS = ("#4d4d4d", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-", "-.", ":", "--", "-.", ":")


def draw_probs(checkpoints: Sequence[Mapping[str, Any]], path: Path) -> None:
    """The picture, written whole or not at all.

    Args:
        checkpoints: Entries of `probs.json`.
        path: The PNG.
    """
    figure = Figure(figsize=(9.0, 4.8), layout="constrained")
    axes = figure.subplots()
    edges = np.linspace(0, 1, NUM_BINS + 1)
    lowest = 1.0
    for index, one in enumerate(checkpoints):
        counts = np.array(one["histogram"]).reshape(NUM_BINS, -1).sum(axis=1)
        shares = counts / counts.sum()
        lowest = min(lowest, shares[shares > 0].min())
        axes.stairs(
            shares,
            edges,
            baseline=None,
            color=COLOURS[index % len(COLOURS)],
            linestyle=LINES[index % len(LINES)],
            linewidth=2.2,
            label=f"{one['name']}  (mean p {one['mean_p']:.3f}, nll {one['mean_nll']:.3f})",
        )
    axes.set_yscale("log")
    axes.set_ylim(10 ** np.floor(np.log10(lowest)), 1)
    axes.set_xlim(0, 1)
    axes.set_xticks(np.linspace(0, 1, 11))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))
    axes.set_xlabel("probability of the target token")
    axes.set_ylabel("share of tokens (log scale)")
    axes.set_title(f"The same {checkpoints[0]['num_tokens']:,} tokens through each checkpoint", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, loc="upper center")
    temporary = path.with_name(path.name + ".tmp")
    figure.savefig(temporary, format="png", dpi=150)
    temporary.replace(path)
