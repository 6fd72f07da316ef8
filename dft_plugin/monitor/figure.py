"""The monitor's curves as one PNG. Series differ in line and marker, so that colour is never needed."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dft_plugin.core.token_stats import NUM_BINS

Rows = Sequence[Mapping[str, Any]]

# Colours of equal weight for readers who do not see red and green apart (Okabe and Ito).
_STYLES = (
    {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    {"color": "#009E73", "linestyle": "-.", "marker": "^"},
    {"color": "#000000", "linestyle": ":", "marker": "D"},
    {"color": "#CC79A7", "linestyle": (0, (5, 1, 1, 1)), "marker": "v"},
    {"color": "#56B4E9", "linestyle": (0, (1, 1)), "marker": "P"},
)
_MAX_MARKERS = 12


def draw_curves(rows: Rows) -> bytes:
    """A PNG of the run: NLL, 1 - mean(p), effective tokens, end-of-sequence tokens, classes or routes, and weights."""
    modes = {mode: [row for row in rows if row["mode"] == mode and row["means"]] for mode in _modes(rows)}
    training = modes.get("train", [])
    figure = Figure(figsize=(12, 7), dpi=110)
    # fixed margins: a layout engine would draw everything twice
    figure.subplots_adjust(left=0.08, right=0.99, bottom=0.08, top=0.94, wspace=0.3, hspace=0.28)
    axes = figure.subplots(2, 3).reshape(-1)

    for axis, key, label in ((axes[0], "nll", "true mean NLL (nats)"), (axes[1], "one_minus_p", "1 - mean(p)")):
        _draw(axis, label, {mode: _points(of_mode, _mean(key)) for mode, of_mode in modes.items()})
    shares = {"effective tokens": "effective_tokens", "weight below 0.05": "low_weight_tokens"}
    _draw(axes[2], "share of tokens", {label: _points(training, _mean(key)) for label, key in shares.items()})
    of_end = {f"mean {key}": _points(training, _of("classes", "eos", key)) for key in ("p", "weight")}
    _draw(axes[3], "end-of-sequence tokens", of_end, is_log=True)
    kind, key, label = (
        ("routes", "nll", "mean NLL by route (nats)")
        if any(row["routes"] for row in training)
        else ("classes", "p", "mean p by token class")
    )
    names = dict.fromkeys(name for row in training for name in row[kind])
    _draw(axes[4], label, {name: _points(training, _of(kind, name, key)) for name in names})
    _draw_weights(axes[5], training)

    alarms = [alarm["step"] for row in rows for alarm in row.get("alarms", [])]
    for axis in axes[:5]:
        for number, step in enumerate(alarms, start=1):
            axis.axvline(step, color="#555555", linewidth=0.8, linestyle=":")
            axis.annotate(str(number), (step, 1), xycoords=("data", "axes fraction"), fontsize=8, va="bottom")
    if alarms:
        figure.suptitle("Dotted lines: alarms, numbered as in the list", fontsize=10)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _modes(rows: Rows) -> list[str]:
    return sorted({row["mode"] for row in rows}, key=lambda mode: (mode != "train", mode))


def _mean(key: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda row: row["means"].get(key)


def _of(kind: str, name: str, key: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda row: row[kind].get(name, {}).get(key)


def _points(rows: Rows, value: Callable[[Mapping[str, Any]], Any]) -> list[tuple[int, float]]:
    """Steps and values, without the windows that have none."""
    return [(row["step"], found) for row in rows if (found := value(row)) is not None]


def _draw(axis: Axes, label: str, series: Mapping[str, list[tuple[int, float]]], *, is_log: bool = False) -> None:
    drawn = {name: points for name, points in series.items() if points}
    for index, (name, points) in enumerate(drawn.items()):
        steps, values = zip(*points, strict=True)
        every = max(1, len(points) // _MAX_MARKERS)
        style: dict[str, Any] = dict(_STYLES[index % len(_STYLES)])
        if index:  # hollow and larger, so that a curve on top of another hides nothing
            style.update(markerfacecolor="none", markersize=7)
        axis.plot(steps, values, label=name, markevery=every, linewidth=1.3, **{"markersize": 4, **style})
    _label(axis, "optimiser step", label + (" (log scale)" if is_log else ""))
    if not drawn:
        axis.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axis.transAxes)
        return
    if is_log and all(value > 0 for points in drawn.values() for _, value in points):
        axis.set_yscale("log")
    elif is_log:
        axis.set_ylabel(label)
    axis.legend(fontsize=8, frameon=False)


def _draw_weights(axis: Axes, training: Rows) -> None:
    _label(axis, "weight (last bin: 0.95 and above)", "share of tokens, last window")
    if not training:
        axis.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axis.transAxes)
        return
    counts = training[-1]["weight_histogram"]
    total = max(sum(counts), 1)
    axis.bar(
        [(index + 0.5) / NUM_BINS for index in range(NUM_BINS)],
        [count / total for count in counts],
        width=0.9 / NUM_BINS,
        color="#0072B2",
        edgecolor="#1a1a1a",
        linewidth=0.5,
    )


def _label(axis: Axes, x_label: str, y_label: str) -> None:
    axis.set_xlabel(x_label, fontsize=9)
    axis.set_ylabel(y_label, fontsize=9)
    axis.tick_params(labelsize=8, which="both")
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
