"""A mean with its interval, and the intervals that need nothing but the values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
ALPHA = 0.05
"""Limit of a p-value; written out, since 1 - 0.95 is above it by rounding."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean with its confidence interval.

    Attributes:
        value: The point estimate.
        low: Lower end of the interval, None where one item cannot give an interval.
        high: Upper end.
        num_items: How many problems (or runs) it is over.
        method: How the interval was made.
    """

    value: float
    low: float | None
    high: float | None
    num_items: int
    method: str


def wilson_interval(num_passed: int, num_items: int, confidence: float = CONFIDENCE) -> Estimate:
    """Share of independent passes with Wilson's score interval, which holds near 0 and 1 too.

    Args:
        num_passed: Passes.
        num_items: Trials, at least 1.
        confidence: Coverage.

    Raises:
        ValueError: counts that cannot be.
    """
    from scipy import special

    if num_items < 1 or not 0 <= num_passed <= num_items:
        raise ValueError(f"{num_passed} passes of {num_items}; needs at least one trial and 0 <= passes <= trials.")
    low, high = _wilson(num_passed / num_items, num_items, float(special.ndtri((1 + confidence) / 2)))
    return Estimate(num_passed / num_items, low, high, num_items, "Wilson")


def effective_wilson(values: Values, confidence: float, *, method: str) -> Estimate:
    """Wilson's interval of a mean of values in [0, 1], with as many trials as would vary alike."""
    from scipy import special

    count, mean = len(values), float(values.mean())
    if count == 1:
        return Estimate(mean, None, None, 1, "one item: no interval")
    variance = float(values.var(ddof=1)) / count
    num_trials = mean * (1 - mean) / variance if variance else count
    return Estimate(
        mean, *_wilson(mean, num_trials, float(special.stdtrit(count - 1, (1 + confidence) / 2))), count, method
    )


def _wilson(share: float, num_trials: float, z: float) -> tuple[float, float]:
    num_passed, width = share * num_trials, 2 * (num_trials + z * z)
    centre = (2 * num_passed + z * z) / width
    reach = z / width * math.sqrt(4 * num_passed * (1 - share) + z * z)
    return (0.0 if share == 0 else centre - reach), (1.0 if share == 1 else centre + reach)


def t_interval(values: Values, confidence: float, *, bounds: tuple[float, float], method: str) -> Estimate:
    """Student's t interval of a mean, cut at the bounds."""
    from scipy import special

    count, mean = len(values), float(values.mean())
    if count == 1:
        return Estimate(mean, None, None, 1, "one item: no interval")
    error = float(values.std(ddof=1)) / math.sqrt(count)
    reach = float(special.stdtrit(count - 1, (1 + confidence) / 2)) * error
    return Estimate(mean, max(bounds[0], mean - reach), min(bounds[1], mean + reach), count, method)


def values_of(by_problem: Mapping[str, float]) -> Values:
    """Values of the problems as an array.

    Raises:
        ValueError: no problem.
    """
    if not by_problem:
        raise ValueError("no problems; at least one is needed.")
    return np.fromiter(by_problem.values(), dtype=np.float64, count=len(by_problem))


def are_equal(values: Values) -> bool:
    """Tell whether no value differs from the others."""
    return bool(np.all(values == values[0]))
