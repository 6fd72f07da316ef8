"""Scores with their uncertainty: intervals for one arm, paired differences between two, verdicts.

The unit is the *problem*. Several answers to one problem are not independent, so a problem's score is the
mean over its answers and every interval is over problems (clusters). Two arms are compared on the same
problems: the difference is taken per problem first, which removes the problems' own difficulty from the
uncertainty. Scores lie in [0, 1]: passes, shares, F1.

scipy is imported where it is used, and `scipy.stats` only for comparing arms: it takes almost two seconds, and
every worker of a scoring pool reads this file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
_NUM_SIGN_FLIPS = 9999
_MEAN_TOLERANCE = 1e-9

VerdictName = Literal["better", "worse", "no decision"]
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


@dataclass(frozen=True)
class Difference:
    """Second arm minus first, paired by problem.

    Attributes:
        estimate: Mean difference with its interval.
        p_value: Two-sided sign-flip test of no difference; exact where few problems differ.
        verdict: `better` or `worse` (the second arm) where the interval excludes 0 and the test agrees;
            else `no decision`.
        detectable: The true difference these problems would show with 80% power; None where the
            differences do not vary.
    """

    estimate: Estimate
    p_value: float
    verdict: VerdictName
    detectable: float | None


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
    share, z = num_passed / num_items, float(special.ndtri((1 + confidence) / 2))
    width = 2 * (num_items + z * z)
    centre = (2 * num_passed + z * z) / width
    reach = z / width * math.sqrt(4 * num_passed * (1 - share) + z * z)
    low = 0.0 if num_passed == 0 else centre - reach
    high = 1.0 if num_passed == num_items else centre + reach
    return Estimate(share, low, high, num_items, "Wilson")


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

    The clustered interval is Student's t on the problems' means, within [0, 1]; with equally many answers
    a problem this is the cluster-robust interval. Where all problems score 0, or all 1, t would claim
    certainty, so Wilson's interval over problems stands in.

    Args:
        scores: One score in [0, 1] an answer.
        problems: The problem of each answer.
        confidence: Coverage.
    """
    values = _values(mean_by_problem(scores, problems))
    if set(values.tolist()) <= {0.0, 1.0} and (len(values) == len(scores) or _are_equal(values)):
        return wilson_interval(round(values.sum()), len(values), confidence)
    return _t_interval(values, confidence, bounds=(0.0, 1.0), method="Student t, clustered by problem")


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
    from scipy import stats

    if first.keys() != second.keys():
        odd = sorted(first.keys() ^ second.keys())
        raise ValueError(f"the arms differ in {len(odd)} problems ({', '.join(odd[:3])} ...); score both on the same.")
    deltas = _values({problem: second[problem] - first[problem] for problem in first})
    p_value = sign_flip_p_value(deltas.tolist())
    if _are_equal(deltas):
        unseen = 1 - (1 - confidence) ** (1 / len(deltas))
        value = float(deltas[0])
        reach = unseen * (1 + abs(value))
        low, high = max(-1.0, value - reach), min(1.0, value + reach)
        estimate = Estimate(value, low, high, len(deltas), "all problems differ alike: rule of three")
        return Difference(estimate, p_value, _decide(estimate, p_value, confidence), None)
    estimate = _t_interval(deltas, confidence, bounds=(-1.0, 1.0), method="Student t, paired by problem")
    power_z = float(stats.norm.ppf((1 + confidence) / 2) + stats.norm.ppf(0.8))
    return Difference(
        estimate, p_value, _decide(estimate, p_value, confidence), power_z * float(stats.sem(deltas, ddof=1))
    )


def sign_flip_p_value(deltas: Sequence[float], *, seed: int = 0) -> float:
    """Two-sided p-value of "each difference could as well have the other sign".

    Zero differences carry no information and drop out. Exact for up to 13 others (for passes and failures
    it is McNemar's exact test there), else over 9,999 seeded random flips.
    """
    from scipy import stats

    nonzero = np.asarray([delta for delta in deltas if delta != 0], dtype=np.float64)
    if not len(nonzero):
        return 1.0
    if len(nonzero) == 1:
        return 1.0  # both sign patterns are equally extreme
    result = stats.permutation_test(
        (nonzero, np.zeros_like(nonzero)),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=_NUM_SIGN_FLIPS,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def over_runs(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """Mean over training runs with Student's t interval; a single run has no interval."""
    if not values:
        raise ValueError("no runs; at least one is needed.")
    array = np.asarray(values, dtype=np.float64)
    return _t_interval(array, confidence, bounds=(-math.inf, math.inf), method="Student t over runs")


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: bounds the chance of any false claim among them."""
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def _decide(estimate: Estimate, p_value: float, confidence: float) -> VerdictName:
    if estimate.low is None or estimate.high is None or p_value >= 1 - confidence:
        return "no decision"
    if estimate.low > 0:
        return "better"
    return "worse" if estimate.high < 0 else "no decision"


def _values(by_problem: Mapping[str, float]) -> Values:
    if not by_problem:
        raise ValueError("no problems; at least one is needed.")
    return np.fromiter(by_problem.values(), dtype=np.float64, count=len(by_problem))


def _are_equal(values: Values) -> bool:
    return bool(np.all(values == values[0]))


def _t_interval(values: Values, confidence: float, *, bounds: tuple[float, float], method: str) -> Estimate:
    from scipy import special

    count, mean = len(values), float(values.mean())
    if count == 1:
        return Estimate(mean, None, None, 1, "one item: no interval")
    error = float(values.std(ddof=1)) / math.sqrt(count)
    reach = float(special.stdtrit(count - 1, (1 + confidence) / 2)) * error
    return Estimate(mean, max(bounds[0], mean - reach), min(bounds[1], mean + reach), count, method)
