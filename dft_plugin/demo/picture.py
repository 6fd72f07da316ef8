"""One picture of the demo's mixed run, for pages outside the report: a known skill and new facts under three losses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

_ARMS = {
    "base": ("base", "#b8bec6"),
    "mixed_sft": ("SFT", "#e07b2a"),
    "mixed_dft": ("DFT", "#2f86d6"),
    "mixed_route": ("routed: SFT on facts, DFT on the skill", "#23a08a"),
}
_TASKS = {
    "addition": ("a known skill,\n30% wrong demonstrations", "t1"),
    "facts": ("100 new facts", "greedy"),
}


def write_picture(results: Mapping[str, Any], path: Path) -> None:
    """Write the shares of right answers, means over the seeds, as an SVG with a white ground.

    Args:
        results: The `results` of the demo's report.
        path: The file.
    """
    with rc_context({"font.family": "sans-serif", "font.size": 11, "svg.fonttype": "none", "svg.hashsalt": "demo"}):
        figure = Figure(figsize=(8, 3.1))
        figure.subplots_adjust(left=0.08, right=0.99, bottom=0.17, top=0.82)
        axis = figure.subplots()
        for index, (arm, (label, colour)) in enumerate(_ARMS.items()):
            shares = [_mean(results, task, arm, decoding) for task, (_, decoding) in _TASKS.items()]
            places = [place + 0.21 * (index - 1.5) for place in range(len(_TASKS))]
            bars = axis.bar(places, [100 * share for share in shares], width=0.19, color=colour, label=label)
            axis.bar_label(bars, fmt="%.0f", padding=2, fontsize=10)
        axis.set_xticks(range(len(_TASKS)), [title for title, _ in _TASKS.values()])
        axis.set_ylabel("right answers (%)")
        axis.set_ylim(0, 112)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(bottom=False)
        figure.legend(loc="upper center", ncols=len(_ARMS), frameon=False, fontsize=10)
        figure.savefig(path, format="svg", facecolor="white", metadata={"Date": None})


def _mean(results: Mapping[str, Any], task: str, arm: str, decoding: str) -> float:
    """Return the mean over the seeds."""
    found = [
        score["value"]
        for seed in results["seeds"]
        for score in seed["scores"]
        if (score["task"], score["arm"], score["decoding"]) == (task, arm, decoding)
    ]
    return fmean(found)
