"""Scores of one arm with their uncertainty."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from dft_eval.metrics.estimates import (
    CONFIDENCE,
    Estimate,
    are_equal,
    effective_wilson,
    t_interval,
    values_of,
    wilson_interval,
)

_MEAN_TOLERANCE = 1e-9


def mean_by_problem(scores: Sequence[float], problems: Sequence[str]) -> dict[str, float]:
    """Mean score of each problem over its answers.

    Args:
        scores: One score in [0, 1] an answer.
        problems: The problem (or any wider cluster) of each answer, in the same order.

    Raises:
        ValueError: unequal lengths, or a score outside [0, 1].
    """
    if len(scores) != len(problems):
        raise ValueError(f"{len(scores)} scores for {len(problems)} problem labels; one label a score is needed.")
    gathered: dict[str, list[float]] = {}
    for score, problem in zip(scores, problems, strict=True):
        if not 0 <= score <= 1:
            raise ValueError(f"score {score!r} of {problem}; scores lie in [0, 1].")
        gathered.setdefault(problem, []).append(float(score))
    return {problem: math.fsum(values) / len(values) for problem, values in gathered.items()}


def check_mean(by_problem: Mapping[str, float], value: float, num_items: int) -> None:
    """Check that an estimate is the mean over these problems, and its interval over as many.

    Args:
        by_problem: Value of each problem.
        value: The estimate.
        num_items: How many items its interval is over.

    Raises:
        ValueError: it is not; says by what.
    """
    if num_items != len(by_problem):
        raise ValueError(f"the interval is over {num_items} items, and there are {len(by_problem)} problems")
    if outside := [problem for problem, each in by_problem.items() if not 0 <= each <= 1]:
        raise ValueError(f"problem {outside[0]} has the value {by_problem[outside[0]]!r}; values lie in [0, 1]")
    mean = math.fsum(by_problem.values()) / len(by_problem) if by_problem else math.nan
    if not abs(mean - value) <= _MEAN_TOLERANCE:
        raise ValueError(f"the mean over {num_items} problems is {mean!r}, not {value!r}")


def score_share(scores: Sequence[float], problems: Sequence[str], confidence: float = CONFIDENCE) -> Estimate:
    """An arm's score: Wilson's interval for passes with one answer a problem, else the clustered one.

    The clustered interval is Wilson's with Student's t and the effective number of problems (Korn and Graubard,
    Survey Methodology 24, 1998): so many independent passes would vary as the mean of the problems' means does. With
    equally many answers a problem it is cluster-robust, and it holds for rare passes, where Student's t on the
    problems' means covers far too seldom. Where the means do not vary, problems count one each.

    Args:
        scores: One score in [0, 1] an answer.
        problems: The problem of each answer.
        confidence: Coverage.
    """
    values = values_of(mean_by_problem(scores, problems))
    if set(values.tolist()) <= {0.0, 1.0} and (len(values) == len(scores) or are_equal(values)):
        return wilson_interval(round(values.sum()), len(values), confidence)
    return effective_wilson(values, confidence, method="Wilson, clustered by problem")


def domain_mean(benchmarks: Sequence[Estimate]) -> Estimate:
    """Mean over an arm's benchmarks, each counting alike, for new problems of these benchmarks.

    The interval is made of the benchmarks' own ones, which are independent: each end lies as far from the mean as
    the root of the sum of squares of theirs (the method of variance estimates recovery; Zou and Donner, Statistics
    in Medicine 27, 2008). So it holds near 0 and 1 where theirs do.

    Args:
        benchmarks: Scores with their intervals, of one confidence.

    Raises:
        ValueError: no benchmark.
    """
    if not benchmarks:
        raise ValueError("no benchmarks; at least one is needed.")
    if len(benchmarks) == 1:
        return benchmarks[0]
    count = len(benchmarks)
    value, num_items = math.fsum(each.value for each in benchmarks) / count, sum(each.num_items for each in benchmarks)
    ends = [(each.value, each.low, each.high) for each in benchmarks if each.low is not None and each.high is not None]
    if len(ends) < count:
        return Estimate(value, None, None, num_items, "a benchmark has no interval")
    low = value - math.hypot(*(mean - below for mean, below, _ in ends)) / count
    high = value + math.hypot(*(above - mean for mean, _, above in ends)) / count
    return Estimate(value, max(0.0, low), min(1.0, high), num_items, "stratified by benchmark")


def pass_at_k(num_answers: int, num_passed: int, k: int) -> float:
    """Chance that at least one of k answers passes, unbiased, from n answers of which c passed.

    1 - C(n - c, k) / C(n, k): the share of the k-subsets of the answers that hold a pass (Chen et al., arXiv
    2107.03374, Eq. 1). The plug-in 1 - (1 - c/n)^k is biased low.

    Args:
        num_answers: n.
        num_passed: c.
        k: How many answers one may try.

    Raises:
        ValueError: counts that cannot be, or fewer answers than k.
    """
    if not 0 <= num_passed <= num_answers or not 1 <= k <= num_answers:
        raise ValueError(
            f"{num_passed} passes of {num_answers} answers, k={k}; 0 <= passes <= answers and 1 <= k <= answers."
        )
    return 1 - math.comb(num_answers - num_passed, k) / math.comb(num_answers, k)


def pass_at_k_share(
    passes: Mapping[str, Sequence[bool]], problems: Mapping[str, str], k: int, confidence: float = CONFIDENCE
) -> Estimate:
    """An arm's pass@k with its interval over problems.

    Args:
        passes: For each sample whether each of its answers passed; at least k answers each.
        problems: The problem of each sample.
        k: How many answers one may try.
        confidence: Coverage.

    Raises:
        ValueError: a sample with fewer than k answers, or no sample.
    """
    values = [pass_at_k(len(outcomes), sum(outcomes), k) for outcomes in passes.values()]
    return score_share(values, [problems[sample] for sample in passes], confidence)


def over_runs(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """Mean over training runs with Student's t interval; a single run has no interval."""
    if not values:
        raise ValueError("no runs; at least one is needed.")
    array = np.asarray(values, dtype=np.float64)
    return t_interval(array, confidence, bounds=(-math.inf, math.inf), method="Student t over runs")
