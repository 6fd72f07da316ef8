"""One line for each score and comparison of the demo, over one seed or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dft_eval.metrics import over_runs
from dft_plugin.demo.results import SeedResults


@dataclass(frozen=True)
class Line:
    """A number as the report prints it.

    Attributes:
        value: Share, or difference of shares.
        spread: Its uncertainty in words.
        verdict: Of a difference; empty for a score.
    """

    value: float
    spread: str
    verdict: str = ""


def score_line(scored: Sequence[SeedResults], task: str, arm: str, decoding: str) -> Line | None:
    """The score of an arm: one seed with its interval, several with their range; None where it was skipped."""
    found = [results.answers.get((task, arm, decoding)) for results in scored]
    estimates = [answers.score for answers in found if answers is not None]
    if not estimates:
        return None
    if len(estimates) == 1:
        return Line(estimates[0].value, _interval(estimates[0].low, estimates[0].high))
    values = [estimate.value for estimate in estimates]
    return Line(sum(values) / len(values), f"{percent(min(values))} to {percent(max(values))}")


def difference_line(scored: Sequence[SeedResults], index: int) -> Line:
    """Comparison `index`: one seed paired by problem; several with the interval over seeds.

    Several seeds decide only where that interval excludes 0 and every seed alone decides the same.
    """
    if len(scored) == 1:
        estimate = scored[0].differences[index].estimate
        return Line(
            estimate.value, _interval(estimate.low, estimate.high, is_difference=True), scored[0].verdict(index)
        )
    estimate = over_runs([results.differences[index].estimate.value for results in scored])
    verdicts = {results.verdict(index) for results in scored}
    excludes_zero = estimate.low is not None and estimate.high is not None and (estimate.low > 0 or estimate.high < 0)
    verdict = verdicts.pop() if len(verdicts) == 1 and excludes_zero else "no decision"
    return Line(estimate.value, _interval(estimate.low, estimate.high, is_difference=True), verdict)


def percent(share: float) -> str:
    """`0.6512` as `65.1%`."""
    return f"{100 * share:.1f}%"


def points(difference: float) -> str:
    """`-0.31` as `−31.0`, with a real minus sign; never `−0.0`."""
    rounded = round(100 * difference, 1) + 0.0
    return f"{rounded:+.1f}".replace("-", "\N{MINUS SIGN}") if rounded else "0.0"


def _interval(low: float | None, high: float | None, *, is_difference: bool = False) -> str:
    if low is None or high is None:
        return "no interval"
    low, high = max(low, -1.0), min(high, 1.0)  # Student's t does not know that shares end there
    return f"{points(low)} to {points(high)}" if is_difference else f"{percent(low)} to {percent(high)}"
