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

COLOURS = {"base": "#8a919c", "sft": "#e07b2a", "dft": "#2f86d6", "mix": "#23a08a", "dft_ms_swift": "#a45ec9"}
_NUM_BINS = 20
_PANELS = (("mean_nll", "true NLL (nats)", 1.0), ("mean_p", "1 - mean p", -1.0))


def write_picture(probs: Mapping[str, Any], path: Path) -> None:
    """Write the histogram of base, SFT and DFT, and every run's mean NLL and 1 - mean p, as an SVG on white ground.

    Args:
        probs: Content of `probs.json`.
        path: The file.
    """
    arms = _by_arm(probs["checkpoints"])
    with rc_context({"font.family": "sans-serif", "font.size": 11, "svg.fonttype": "none", "svg.hashsalt": "study"}):
        figure = Figure(figsize=(9.6, 3.4), layout="constrained")
        histogram, *panels = figure.subplots(1, 3, width_ratios=(2.2, 1, 1))
        _draw_histogram(histogram, arms, probs["num_tokens"])
        for axes, (key, title, sign) in zip(panels, _PANELS, strict=True):
            _draw_runs(axes, arms, key, title, sign)
        figure.savefig(path, format="svg", facecolor="white", metadata={"Date": None})


def _by_arm(checkpoints: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for checkpoint in checkpoints:
        found.setdefault(str(checkpoint["name"]).partition("/")[0], []).append(checkpoint)
    return found


def _draw_histogram(axes: Axes, arms: Mapping[str, Sequence[Mapping[str, Any]]], num_tokens: int) -> None:
    shown = [arm for arm in ("base", "sft", "dft") if arm in arms]
    for index, arm in enumerate(shown):
        shares = [_shares(run["histogram"]) for run in arms[arm]]
        heights = [fmean(each) for each in zip(*shares, strict=True)]
        width = 0.84 / _NUM_BINS / len(shown)
        lefts = [place / _NUM_BINS + 0.08 / _NUM_BINS + index * width for place in range(_NUM_BINS)]
        axes.bar(lefts, heights, width, align="edge", color=COLOURS[arm], label=arm)
    axes.set_yscale("log")
    axes.set_xlim(0, 1)
    axes.set_xlabel("probability of the right token")
    axes.set_title(f"share of {num_tokens:,} held-out tokens", loc="left", fontsize=11)
    axes.legend(frameon=False, loc="upper center", ncols=3)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_runs(axes: Axes, arms: Mapping[str, Sequence[Mapping[str, Any]]], key: str, title: str, sign: float) -> None:
    for place, (arm, runs) in enumerate(arms.items()):
        values = [run[key] if sign > 0 else 1 - run[key] for run in runs]
        axes.plot([place] * len(values), values, "o", color=COLOURS.get(arm, "#5b6672"), markersize=7, alpha=0.85)
        axes.plot([place - 0.25, place + 0.25], [fmean(values)] * 2, color=COLOURS.get(arm, "#5b6672"), linewidth=2)
    axes.set_xticks(range(len(arms)), [arm.replace("_", "\n", 1) for arm in arms], fontsize=9)
    axes.set_xlim(-0.6, len(arms) - 0.4)
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(axis="y", alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)


def _shares(histogram: Sequence[int]) -> list[float]:
    width, total = len(histogram) // _NUM_BINS, sum(histogram)
    return [sum(histogram[start : start + width]) / total for start in range(0, len(histogram), width)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("probs", type=Path, help="probs.json of the study")
    parser.add_argument("picture", type=Path)
    given = parser.parse_args()
    write_picture(json.loads(given.probs.read_text(encoding="utf-8")), given.picture)
