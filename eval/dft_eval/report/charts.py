"""A comparison's figures: differences with their intervals, training curves, token probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from dft_eval.report.arms import About
from dft_eval.report.comparison import Comparison
from dft_eval.report.document import Figure
from dft_eval.report.figures import Panel, Role, Series, draw_curves, draw_histogram
from dft_eval.report.forest import Interval, Row, draw_forest

_NAMED: Mapping[str, Role] = {"sft": "first", "dft": "second"}
_ROLES: tuple[Role, ...] = ("third", "fourth", "fifth", "sixth", "seventh", *_NAMED.values())
_CURVES = (
    ("nll", "True NLL", "mean NLL (nats)", "SFT lowers it; DFT may raise it, and is meant to."),
    ("one_minus_p", "1 - mean(p)", "1 - mean(p)", "Bounded; its gradient is DFT's."),
)
NUM_BINS = 20


def roles(arms: Sequence[str]) -> dict[str, Role]:
    """Colour and line of each arm, the same in every figure and report: the baseline's, SFT's, DFT's, then in order.

    Args:
        arms: The baseline first.

    Returns:
        By arm, for as many as can be told apart (8); the figures leave the others to the tables.
    """
    found: dict[str, Role] = {arms[0]: "reference"}
    found |= {arm: _NAMED[arm] for arm in arms[1:] if arm in _NAMED}
    free = [role for role in _ROLES if role not in found.values()]
    further = [arm for arm in arms if arm not in found]
    chosen = found | dict(zip(further, free, strict=False))
    return {arm: chosen[arm] for arm in arms if arm in chosen}


def _left_out(comparison: Comparison) -> str:
    """A caption's words about arms that are not drawn."""
    others = [arm for arm in comparison.arms if arm not in roles(comparison.arms)]
    return f" Not drawn: {', '.join(others)}." if others else ""


def difference_figure(comparison: Comparison) -> tuple[Figure, ...]:
    """Every arm's difference to the baseline on every benchmark, with intervals."""
    colours, rows = roles(comparison.arms), []
    for task in comparison.tasks:
        intervals = []
        for arm in comparison.others(comparison.baseline):
            compared = comparison.compared(task, arm, comparison.baseline)
            if compared is None or arm not in colours:
                continue
            estimate = compared.difference.estimate
            low, high = (None if end is None else 100 * end for end in (estimate.low, estimate.high))
            is_decided = compared.verdict != "no decision"
            intervals.append(Interval(arm, 100 * estimate.value, low, high, colours[arm], is_decided))
        if intervals:
            rows.append(Row(task, tuple(intervals)))
    if not rows:
        return ()
    caption = (
        f"Each arm minus {comparison.baseline}, with 95% intervals. Filled: decided after Holm's correction; hollow: "
        f"no decision.{_left_out(comparison)}"
    )
    return (Figure("Differences", caption, *draw_forest(rows, f"points against {comparison.baseline}")),)


def curve_figures(comparison: Comparison, abouts: Sequence[About]) -> tuple[Figure, ...]:
    """True NLL and 1 - mean(p) of every trained arm, in training and where the trainer evaluated; means over seeds."""
    places = {"in training": ("Each on its own training batches", [about.monitor_rows for about in abouts])}
    for name in sorted({name for about in abouts for name in about.held_out_rows}):
        where = f"on held-out data: {name}" if name else "on held-out data"
        places[where] = ("In the trainer's own evaluations", [about.held_out_rows.get(name, []) for about in abouts])
    figures = []
    for key, title, label, reading in _CURVES:
        for where, (note, rows) in places.items():
            series = _curves(comparison, [(about.arm, own) for about, own in zip(abouts, rows, strict=True)], key)
            if series:
                caption = f"{reading} {note}; mean over the seeds.{_left_out(comparison)}"
                figures.append(Figure(f"{title} {where}", caption, draw_curves(Panel(label, "step", series))))
    return tuple(figures)


def _curves(
    comparison: Comparison, runs: Sequence[tuple[str, Sequence[Mapping[str, Any]]]], key: str
) -> tuple[Series, ...]:
    """A line an arm, at the steps that all its seeds have."""
    series = []
    for arm, role in roles(comparison.arms).items():
        curves = [_curve(rows, key) for name, rows in runs if name == arm and rows]
        steps = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
        if steps:
            values = [fmean(curve[step] for curve in curves) for step in steps]
            series.append(Series(arm, values, role, tuple(steps)))
    return tuple(series)


def probability_figure(comparison: Comparison, probs: Mapping[str, Any]) -> tuple[Figure, ...]:
    """The same tokens' probabilities under every arm, means over the seeds."""
    colours, series = roles(comparison.arms), []
    for arm, checkpoints in by_arm(probs).items():
        if arm not in colours:
            continue
        series.append(Series(arm, mean_shares(checkpoints), colours[arm]))
    if not series:
        return ()
    panel = Panel("share of tokens (log)", "probability of the right token", tuple(series), is_log=True)
    caption = (
        f"{probs['num_tokens']:,} tokens of the same texts; {NUM_BINS} bins; one with less than one token in 10,000 "
        f"has no bar.{_left_out(comparison)}"
    )
    return (Figure("Token probabilities", caption, *draw_histogram(panel)),)


def by_arm(probs: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """The checkpoints of each arm: `dft/seed0` is one of `dft`."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for checkpoint in probs["checkpoints"]:
        found.setdefault(str(checkpoint["name"]).partition("/")[0], []).append(checkpoint)
    return found


def _curve(rows: Sequence[Mapping[str, Any]], key: str) -> dict[int, float]:
    return {int(row["step"]): float(row["means"][key]) for row in rows if key in row["means"]}


def mean_shares(checkpoints: Sequence[Mapping[str, Any]]) -> list[float]:
    """Share of the tokens in each of 20 equal bins of p, the mean over checkpoints."""
    return [fmean(each) for each in zip(*(_shares(one["histogram"]) for one in checkpoints), strict=True)]


def _shares(histogram: Sequence[int]) -> list[float]:
    width, total = len(histogram) // NUM_BINS, sum(histogram)
    return [sum(histogram[start : start + width]) / total for start in range(0, len(histogram), width)]
