"""Picture of a study's token probabilities for pages outside the report: Figure 2 of the DFT paper, and its meaning."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dft_eval.report.charts import NUM_BINS, by_arm, mean_shares, roles
from dft_eval.report.figures import COLOURS

_PANELS = (("mean_nll", "true NLL (nats)", 1.0), ("mean_p", "1 - mean p", -1.0))


def write_picture(probs: Mapping[str, Any], path: Path) -> None:
    """Write the histogram of base, SFT and DFT, and every run's mean NLL and 1 - mean p, as an SVG on white ground.

    Args:
        probs: Content of `probs.json`.
        path: The file.
    """
    arms = by_arm(probs)
    with rc_context({"font.family": "sans-serif", "font.size": 11, "svg.fonttype": "none", "svg.hashsalt": "study"}):
        figure = Figure(figsize=(9.6, 3.4), layout="constrained")
        histogram, *panels = figure.subplots(1, 3, width_ratios=(2.2, 1, 1))
        _draw_histogram(histogram, arms, probs["num_tokens"])
        for axes, (key, title, sign) in zip(panels, _PANELS, strict=True):
            _draw_runs(axes, arms, key, title, sign)
        figure.savefig(path, format="svg", facecolor="white", metadata={"Date": None})


def _draw_histogram(axes: Axes, arms: Mapping[str, Sequence[Mapping[str, Any]]], num_tokens: int) -> None:
    colours = roles(list(arms))
    shown = [arm for arm in ("base", "sft", "dft") if arm in arms]
    for index, arm in enumerate(shown):
        width = 0.84 / NUM_BINS / len(shown)
        lefts = [place / NUM_BINS + 0.08 / NUM_BINS + index * width for place in range(NUM_BINS)]
        axes.bar(lefts, mean_shares(arms[arm]), width, align="edge", color=COLOURS[colours[arm]], label=arm)
    axes.set_yscale("log")
    axes.set_xlim(0, 1)
    axes.set_xlabel("probability of the right token")
    axes.set_title(f"share of {num_tokens:,} held-out tokens", loc="left", fontsize=11)
    axes.legend(frameon=False, loc="upper center", ncols=3)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_runs(axes: Axes, arms: Mapping[str, Sequence[Mapping[str, Any]]], key: str, title: str, sign: float) -> None:
    colours = roles(list(arms))
    for place, (arm, runs) in enumerate(arms.items()):
        colour = COLOURS[colours[arm]]
        values = [run[key] if sign > 0 else 1 - run[key] for run in runs]
        axes.plot([place] * len(values), values, "o", color=colour, markersize=7, alpha=0.85)
        axes.plot([place - 0.25, place + 0.25], [fmean(values)] * 2, color=colour, linewidth=2)
    axes.set_xticks(range(len(arms)), [arm.replace("_", "\n", 1) for arm in arms], fontsize=9)
    axes.set_xlim(-0.6, len(arms) - 0.4)
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(axis="y", alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("probs", type=Path, help="probs.json of the study")
    parser.add_argument("picture", type=Path)
    given = parser.parse_args()
    write_picture(json.loads(given.probs.read_text(encoding="utf-8")), given.picture)
