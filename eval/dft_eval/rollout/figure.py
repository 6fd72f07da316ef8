"""The pass rates of a rollout as a picture."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_RC: Any = {"font.family": "sans-serif", "font.size": 11, "svg.fonttype": "none", "svg.hashsalt": "rollout"}


def draw_pass_rates(pass_rates: Mapping[int, int], num_repeats: int) -> str:
    """Bars of the prompts by their right answers, as an SVG with a white ground; the same bytes for the same numbers.

    Args:
        pass_rates: Prompts by how many of their answers are right.
        num_repeats: Answers to each.
    """
    counts = [pass_rates.get(number, 0) for number in range(num_repeats + 1)]
    with rc_context(_RC):
        figure = Figure(figsize=(6.4, 3.2), layout="constrained")
        axis = figure.subplots()
        bars = axis.bar(range(num_repeats + 1), counts, width=0.8, color="#2f86d6")
        if num_repeats <= 16:
            axis.bar_label(bars, padding=2, fontsize=10)
            axis.set_xticks(range(num_repeats + 1))
        else:
            axis.xaxis.set_major_locator(MaxNLocator(10, integer=True))
        axis.set_title(f"Right answers to each of {sum(counts)} prompts", loc="left", fontsize=12)
        axis.set_ylim(0, 1.12 * max(counts))
        axis.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
        axis.set_xlabel(f"right answers of {num_repeats}")
        axis.set_ylabel("prompts")
        axis.spines[["top", "right"]].set_visible(False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None})
    return buffer.getvalue().decode()
