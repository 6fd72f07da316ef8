"""The demo's figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dft_eval.report.document import Figure
from dft_eval.report.figures import Panel, Role, Series, draw_curves, draw_histogram
from dft_plugin.analysis.token_probs import TokenProbs
from dft_plugin.demo.arms import ArmResult
from dft_plugin.demo.data import SeedPlan

_SMOOTH_STEPS = 10
_HISTOGRAM_CAPTION = "20 bins; a bin with less than one token in 10,000 has no bar."
_CURVES = (
    ("sft", "dft", "nll", "Additions: true NLL", "SFT lowers it; DFT may raise it, and is meant to."),
    ("sft", "dft", "one_minus_p", "Additions: 1 - mean(p)", "The quantity whose gradient DFT follows."),
    ("facts_sft", "facts_dft", "nll", "Facts: true NLL", "Near 0 the facts are known."),
    ("facts_sft", "facts_dft", "one_minus_p", "Facts: 1 - mean(p)", "Where it levels off, learning has stopped."),
)
_HISTOGRAMS = {
    "addition": ("Held-out additions", ("base", "sft", "dft")),
    "facts": ("New facts", ("base", "facts_sft", "facts_dft")),
}
_SERIES: tuple[tuple[str, Role], ...] = (("Base", "reference"), ("SFT", "first"), ("DFT", "second"))
_Y_LABELS = {"nll": "mean NLL (nats)", "one_minus_p": "1 - mean(p)"}


def curve_figures(plan: SeedPlan, trained: Mapping[str, ArmResult]) -> tuple[Figure, ...]:
    """True NLL and 1 - mean(p) of SFT and DFT on their training batches, for both tasks."""
    figures = []
    for first, second, key, title, caption in _CURVES:
        series = (
            Series("SFT", trained[f"{plan.folder}/{first}"].curve(key), "first"),
            Series("DFT", trained[f"{plan.folder}/{second}"].curve(key), "second"),
        )
        svg = draw_curves(Panel(_Y_LABELS[key], "step", series), smooth=_SMOOTH_STEPS)
        figures.append(Figure(title, f"{caption} Mean of {_SMOOTH_STEPS} steps; thin: every step.", svg))
    return tuple(figures)


def agreement_figure(
    plan: SeedPlan, trained: Mapping[str, ArmResult], differences: Sequence[float]
) -> tuple[Figure, ...]:
    """The two frameworks' losses on top of each other, and their relative difference."""
    series = (
        Series("LLaMA-Factory", trained[f"{plan.folder}/dft"].curve("loss"), "reference"),
        Series("ms-swift", trained[f"{plan.folder}/dft_ms_swift"].curve("loss"), "third"),
    )
    losses = draw_curves(Panel("DFT loss", "step", series[::-1]))
    floor = [max(difference, 1e-12) for difference in differences]
    relative = draw_curves(Panel("relative difference", "step", (Series("difference", floor, "third"),), is_log=True))
    return (
        Figure(
            "Both losses",
            "As each framework logged them; where one curve shows, they coincide.",
            losses,
        ),
        Figure("Their difference", "Relative, log scale; equal values are drawn at 1e-12.", relative),
    )


def token_prob_figures(probs: Mapping[tuple[str, str], TokenProbs]) -> tuple[Figure, ...]:
    """Histograms of token probabilities in 20 bins on a log axis, a task each."""
    figures = []
    for task, (title, arms) in _HISTOGRAMS.items():
        series = tuple(
            Series(label, [count / probs[task, arm].num_tokens for count in probs[task, arm].histogram()], role)
            for arm, (label, role) in zip(arms, _SERIES, strict=True)
        )
        panel = Panel("share of tokens (log)", "probability of the right token", series, is_log=True)
        figures.append(Figure(title, _HISTOGRAM_CAPTION, *draw_histogram(panel)))
    return tuple(figures)
