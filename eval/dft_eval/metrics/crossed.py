"""Uncertainty of a mean over problems and training seeds, both of them samples (two-way crossed random effects).

For the scores (or differences) of P problems under the S seeds of an arm, y_ps = mean + problem_p + seed_s + rest_ps,
the mean squares of the two-way table (Searle, Casella, McCulloch: Variance Components, 1992, chapter 4) give

    A = MS_problem / (P S)   B = MS_seed / (P S)   C = MS_rest / (P S)   variance of the mean = A + B - C:

A and B both hold the rest once, so it comes off once. With two to five seeds, Satterthwaite's one number of degrees of
freedom for the sum is wrong where it matters: a seed variance that came out small by chance makes the sum look well
known. So each part keeps its own quantile of Student's t,

    reach^2 = t(P-1)^2 max(A - C, 0) + t(S-1)^2 B,   at least t(P-1)^2 A,

a sum that covers for parts estimated independently of each other (Banerjee, Sankhya 22, 1960, 359-362). Where arms
have seeds of their own, each adds its B and takes off its C.

Seed means are counts of passes over P, so seeds may tie by chance, and B = 0 would take them for certain: a count
stands for all within half a problem of it, so the root of B is at least (1/2) / (P S), that of two seeds half a problem
apart.

`tests/benchmarks/coverage.py` compares this with Satterthwaite's and with the bootstrap over problems and seeds;
`docs/statistics.md` has the figures.

All functions take arrays of studies as well as single ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
FactorOf = Callable[[Any], Any]
_SMALLEST_P = 1e-9


class ProblemPart(NamedTuple):
    """Part of the variance of a mean that is due to problems.

    Attributes:
        variance: A: variance of the mean of the problems' means; holds the rest once.
        num_free: Its degrees of freedom; over several benchmarks Satterthwaite's.
    """

    variance: Any
    num_free: Any


class SeedPart(NamedTuple):
    """Part of the variance of a mean that is due to seeds.

    Attributes:
        variance: B: variance of the mean of the seeds' means, never 0; holds the rest once.
        rest: C: what of it is due to problems and seeds together.
        num_free: Degrees of freedom of B.
    """

    variance: Any
    rest: Any
    num_free: int


def problem_part(benchmarks: Sequence[Array]) -> ProblemPart:
    """Give A of the mean over benchmarks, each counting alike, from their problems' means of shape (..., P)."""
    each = [np.asarray(means.var(axis=-1, ddof=1) / means.shape[-1] / len(benchmarks) ** 2) for means in benchmarks]
    if len(each) == 1:
        return ProblemPart(each[0], benchmarks[0].shape[-1] - 1)
    total = np.asarray(sum(each))
    squares = sum(part**2 / (means.shape[-1] - 1) for part, means in zip(each, benchmarks, strict=True))
    fewest = min(means.shape[-1] for means in benchmarks) - 1
    return ProblemPart(total, np.divide(total**2, squares, out=np.full_like(total, fewest), where=total > 0))


def seed_part(benchmarks: Sequence[Array]) -> SeedPart:
    """Give B and C of the mean over benchmarks, from their scores or differences of shape (..., P, S).

    The seeds are those of one training run on all benchmarks; at least two problems each, and two seeds.
    """
    count, num_seeds = len(benchmarks), benchmarks[0].shape[-1]
    of_seeds = sum(scores.mean(axis=-2) for scores in benchmarks) / count
    rest = sum(_rest(scores) for scores in benchmarks) / count**2
    half_a_problem = sum((0.5 / scores.shape[-2]) ** 2 for scores in benchmarks) / count**2
    between = np.maximum(of_seeds.var(axis=-1, ddof=1) / num_seeds, half_a_problem / num_seeds**2)
    return SeedPart(between, rest, num_seeds - 1)


def combined_reach(problems: ProblemPart, seeds: Sequence[SeedPart], factor_of: FactorOf) -> Any:
    """Half-width of the interval, or the smallest effect, that the parts of the variance give.

    Args:
        problems: A.
        seeds: B and C of each arm whose seeds are a sample.
        factor_of: How many standard errors a part with so many degrees of freedom counts.
    """
    rest = sum(part.rest for part in seeds)
    between = sum(factor_of(part.num_free) ** 2 * part.variance for part in seeds)
    of_problems = factor_of(problems.num_free) ** 2
    within = of_problems * np.maximum(problems.variance - rest, 0)
    return np.sqrt(np.maximum(of_problems * problems.variance, within + between))


def two_sided(confidence: float) -> FactorOf:
    """Student's t quantile of a two-sided interval."""
    from scipy import special

    return lambda num_free: special.stdtrit(num_free, (1 + confidence) / 2)


def with_power(confidence: float, power: float) -> FactorOf:
    """True effect, in standard errors, that a two-sided t test finds with this power (noncentral t)."""
    from scipy import special

    return lambda num_free: special.nctdtrinc(num_free, 1 - power, special.stdtrit(num_free, (1 + confidence) / 2))


def level_of_zero(value: Any, reach: Callable[[Any], Any]) -> Any:
    """Find the p-value: 1 - the confidence at which the interval touches 0.

    Args:
        value: The mean.
        reach: Half-width of its interval at a confidence.
    """
    low, high = np.full_like(value, _SMALLEST_P, dtype=np.float64), np.ones_like(value, dtype=np.float64)
    for _ in range(40):
        middle = np.sqrt(low * high)
        holds_zero = reach(1 - middle) >= np.abs(value)
        low, high = np.where(holds_zero, middle, low), np.where(holds_zero, high, middle)
    return high


def _rest(scores: Array) -> Any:
    num_problems, num_seeds = scores.shape[-2:]
    of_problems, of_seeds = scores.mean(axis=-1, keepdims=True), scores.mean(axis=-2, keepdims=True)
    rest = scores - of_problems - of_seeds + of_seeds.mean(axis=-1, keepdims=True)
    free = (num_problems - 1) * (num_seeds - 1)
    return (rest**2).sum(axis=(-2, -1)) / free / (num_problems * num_seeds)
