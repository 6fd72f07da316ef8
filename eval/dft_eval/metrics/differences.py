"""Paired differences between two arms of one run each, and verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dft_eval.metrics.crossed import problem_part, with_power
from dft_eval.metrics.estimates import CONFIDENCE, Estimate, are_equal, t_interval, values_of

POWER = 0.8
_NUM_SIGN_FLIPS = 9999
_FLIPS_AT_ONCE = 500
_TIE = 1e-12  # sums that differ by rounding alone are equal

VerdictName = Literal["better", "worse", "no decision"]


@dataclass(frozen=True)
class Difference:
    """Second arm minus first, paired by problem; over seeds too where arms have several.

    Attributes:
        estimate: Mean difference with its interval.
        p_value: Two-sided test of no difference: sign flips, exact where few problems differ; with several seeds
            also the level at which the interval touches 0, the larger of the two.
        verdict: `better` or `worse` (the second arm) where the interval excludes 0 and the test agrees;
            else `no decision`.
        detectable: The true difference these problems and seeds would show with 80% power; None where the
            differences do not vary, in any one benchmark of several.
    """

    estimate: Estimate
    p_value: float
    verdict: VerdictName
    detectable: float | None


def paired_difference(
    first: Mapping[str, float], second: Mapping[str, float], confidence: float = CONFIDENCE
) -> Difference:
    """Second arm minus first on the same problems.

    The interval is Student's t on the problems' differences. Where all differences are equal, t has no
    spread to work with: then the interval allows for the share of other problems that this many equal ones
    cannot exclude, 1 - (1 - confidence)^(1/n) (the exact rule of three).

    Args:
        first: Mean score of each problem, of the arm to compare with.
        second: The same of the other arm.
        confidence: Coverage.

    Raises:
        ValueError: the arms were scored on different problems.
    """
    if first.keys() != second.keys():
        odd = sorted(first.keys() ^ second.keys())
        raise ValueError(f"the arms differ in {len(odd)} problems ({', '.join(odd[:3])} ...); score both on the same.")
    deltas = values_of({problem: second[problem] - first[problem] for problem in first})
    p_value = sign_flip_p_value(deltas.tolist())
    if are_equal(deltas):
        value, reach = float(deltas[0]), float(unseen_reach(float(deltas[0]), len(deltas), confidence))
        low, high = max(-1.0, value - reach), min(1.0, value + reach)
        estimate = Estimate(value, low, high, len(deltas), "all problems differ alike: rule of three")
        return Difference(estimate, p_value, decide(estimate, p_value, confidence), None)
    estimate = t_interval(deltas, confidence, bounds=(-1.0, 1.0), method="Student t, paired by problem")
    factor = with_power(confidence, POWER)(len(deltas) - 1)
    detectable = float(factor) * math.sqrt(float(problem_part([deltas]).variance))
    return Difference(estimate, p_value, decide(estimate, p_value, confidence), detectable)


def unseen_reach(value: Any, num_items: int, confidence: Any) -> Any:
    """Half-width of the interval where all differences are this one: what as many equal ones cannot exclude."""
    return (1 - (1 - confidence) ** (1 / num_items)) * (1 + abs(value))


def sign_flip_p_value(deltas: Sequence[float], *, seed: int = 0) -> float:
    """Two-sided p-value of "each difference could as well have the other sign".

    Zero differences carry no information and drop out. Exact for up to 13 others (for passes and failures
    it is McNemar's exact test there), else over 9,999 seeded random flips and the observed signs.
    """
    sizes = np.abs(np.asarray([delta for delta in deltas if delta != 0], dtype=np.float64))
    observed = abs(math.fsum(deltas)) - _TIE * float(sizes.sum())
    if 2 ** len(sizes) <= _NUM_SIGN_FLIPS:
        all_patterns = np.arange(2 ** len(sizes))[:, None] >> np.arange(len(sizes)) & 1
        return float(np.mean(np.abs(sizes.sum() - 2 * all_patterns @ sizes) >= observed))
    rng, num_extreme = np.random.default_rng(seed), 0
    for start in range(0, _NUM_SIGN_FLIPS, _FLIPS_AT_ONCE):
        shape = (min(_FLIPS_AT_ONCE, _NUM_SIGN_FLIPS - start), -(-len(sizes) // 8))
        random_bytes = rng.integers(0, 256, shape, dtype=np.uint8)
        patterns = np.unpackbits(random_bytes, axis=1, count=len(sizes))
        num_extreme += int((np.abs(sizes.sum() - 2 * patterns @ sizes) >= observed).sum())
    return (1 + num_extreme) / (1 + _NUM_SIGN_FLIPS)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: bounds the chance of any false claim among them."""
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def decide(estimate: Estimate, p_value: float, confidence: float) -> VerdictName:
    """Name the second arm better or worse where the interval excludes 0 and the test agrees."""
    if (
        estimate.low is None or estimate.high is None or p_value >= 1 - confidence - _TIE
    ):  # 1 - 0.95 is above 0.05 by rounding
        return "no decision"
    if estimate.low > 0:
        return "better"
    return "worse" if estimate.high < 0 else "no decision"
