"""Uncertainty of a mean over problems and training seeds, both of them samples (two-way crossed random effects).

For the scores (or differences) of P problems under the S seeds of an arm, y_ps = mean + problem_p + seed_s + rest_ps,
the mean squares of the two-way table (Searle, Casella, McCulloch: Variance Components, 1992, chapter 4) give

    A = MS_problem / (P S)   B = MS_seed / (P S)   C = MS_rest / (P S)   variance of the mean = A + B - C:

A and B both hold the rest once, so it comes off once. With two to five seeds, Satterthwaite's one number of degrees of
freedom for the sum is wrong where it matters: a seed variance that came out small by chance makes the sum look well
known. So each part keeps its own quantile of Student's t,

    reach^2 = t(P-1)^2 max(A - C, 0) + t(S-1)^2 B,   at least t(P-1)^2 A,

which cannot be too short for parts that are estimated independently (Banerjee, Sankhya 22, 1960, 359-362). Where arms
have seeds of their own, each adds its B and takes off its C. `tests/benchmarks/coverage.py` compares this with
Satterthwaite's and with the bootstrap over problems and seeds.

All functions take arrays of studies as well as single ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
FactorOf = Callable[[int], float]


class SeedPart(NamedTuple):
    """Part of the variance of a mean that is due to seeds.

    Attributes:
        between: B: variance of the seeds' means over the number of seeds; holds the rest once.
        rest: C: what of it is due to problems and seeds together.
        num_free: Degrees of freedom of B.
    """

    between: Any
    rest: Any
    num_free: int


def problem_part(means: Array) -> Array:
    """A: variance of the mean of the problems' means, of shape (..., P)."""
    return np.asarray(means.var(axis=-1, ddof=1) / means.shape[-1])


def seed_part(scores: Array) -> SeedPart:
    """B and C of the table of scores or differences of shape (..., P, S), with at least two problems and seeds."""
    num_problems, num_seeds = scores.shape[-2:]
    of_seeds = scores.mean(axis=-2, keepdims=True)
    rest = scores - scores.mean(axis=-1, keepdims=True) - of_seeds + of_seeds.mean(axis=-1, keepdims=True)
    free = (num_problems - 1) * (num_seeds - 1)
    between = of_seeds[..., 0, :].var(axis=-1, ddof=1) / num_seeds
    return SeedPart(between, (rest**2).sum(axis=(-2, -1)) / free / (num_problems * num_seeds), num_seeds - 1)


def combined_reach(problems: Any, num_problems: int, seeds: list[SeedPart], factor_of: FactorOf) -> Any:
    """Half-width of the interval, or the smallest effect, that the parts of the variance give.

    Args:
        problems: A.
        num_problems: P.
        seeds: B and C of each arm whose seeds are a sample.
        factor_of: How many standard errors a part with so many degrees of freedom counts.
    """
    rest = sum(part.rest for part in seeds)
    between = sum(factor_of(part.num_free) ** 2 * part.between for part in seeds)
    of_problems = factor_of(num_problems - 1) ** 2
    within = of_problems * np.maximum(problems - rest, 0)
    return np.sqrt(np.maximum(of_problems * problems, within + between))


def two_sided(confidence: float) -> FactorOf:
    """Student's t quantile of a two-sided interval."""
    from scipy import special

    return lambda num_free: float(special.stdtrit(num_free, (1 + confidence) / 2))


def with_power(confidence: float, power: float) -> FactorOf:
    """True effect, in standard errors, that a two-sided t test finds with this power (noncentral t)."""
    from scipy import special

    return lambda num_free: float(
        special.nctdtrinc(num_free, 1 - power, special.stdtrit(num_free, (1 + confidence) / 2))
    )
