"""Differences between arms that were trained with several seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from dft_eval.metrics.crossed import (
    Array,
    SeedPart,
    combined_reach,
    problem_part,
    seed_part,
    two_sided,
    with_power,
)
from dft_eval.metrics.differences import POWER, Difference, decide, paired_difference, sign_flip_p_value, unseen_reach
from dft_eval.metrics.estimates import CONFIDENCE, Estimate, are_equal

Runs = Mapping[int | None, Mapping[str, float]]
"""Mean score of each problem, by the seed of the run; the only seed None is a model that was not trained."""

_SMALLEST_P = 1e-9


def seeded_difference(first: Runs, second: Runs, confidence: float = CONFIDENCE) -> Difference:
    """Second arm minus first, for new problems and new training seeds.

    Arms with the same seeds are paired by seed and problem. A model that was not trained (seed None) stands against
    every seed of the other. Arms with other seeds are paired by problem alone: each adds the variance between its
    own seeds, and a trained arm with one seed is taken to vary as the other does. One run each is
    `paired_difference`, whose interval is for new problems and these runs.

    The interval is that of `crossed`: Student's t for problems and for seeds, each with its own degrees of freedom.
    The p-value is the larger of two: the level at which this interval touches 0, and the sign-flip test of the
    problems' differences, which holds where few problems differ.

    Args:
        first: Runs of the arm to compare with.
        second: Runs of the other arm.
        confidence: Coverage.

    Raises:
        ValueError: no run, runs on different problems, or a seed None beside others.
    """
    problems = _shared_problems(first, second)
    if len(first) == len(second) == 1:
        return paired_difference(next(iter(first.values())), next(iter(second.values())), confidence)
    before, after = (_table(runs, problems) for runs in (first, second))
    deltas = after.mean(axis=1) - before.mean(axis=1)
    value, pairing = float(deltas.mean()), _pairing(first, second)
    if len(problems) == 1:
        return Difference(Estimate(value, None, None, 1, "one problem: no interval"), 1.0, "no decision", None)
    is_paired = first.keys() == second.keys()
    seeds = [seed_part(after - before)] if is_paired else _own_seed_parts(first, second, before, after)

    def reach(level: float) -> float:
        of_seeds = float(combined_reach(problem_part(deltas), len(problems), seeds, two_sided(level)))
        return float(np.hypot(of_seeds, unseen_reach(value, len(problems), level))) if are_equal(deltas) else of_seeds

    p_value = max(_level_of_zero(value, reach), sign_flip_p_value(deltas.tolist()))
    low, high = max(-1.0, value - reach(confidence)), min(1.0, value + reach(confidence))
    estimate = Estimate(value, low, high, len(problems), f"Student t over problems and {pairing}")
    detectable = combined_reach(problem_part(deltas), len(problems), seeds, with_power(confidence, POWER))
    return Difference(estimate, p_value, decide(estimate, p_value, confidence), float(detectable) or None)


def _shared_problems(first: Runs, second: Runs) -> list[str]:
    for runs in (first, second):
        if not runs or (None in runs and len(runs) > 1):
            found = ", ".join(map(str, runs)) or "none"
            raise ValueError(f"the seeds of an arm are {found}; give one run or more, and None as the only one.")
    problems = next(iter(first.values())).keys()
    for scores in (*first.values(), *second.values()):
        if scores.keys() != problems:
            odd = sorted(scores.keys() ^ problems)
            raise ValueError(f"runs differ in {len(odd)} problems ({', '.join(odd[:3])} ...); score all on the same.")
    if not problems:
        raise ValueError("no problems; at least one is needed.")
    return list(problems)


def _table(runs: Runs, problems: list[str]) -> Array:
    return np.array([[scores[problem] for scores in runs.values()] for problem in problems], dtype=np.float64)


def _pairing(first: Runs, second: Runs) -> str:
    if first.keys() == second.keys():
        return f"{len(first)} paired seeds"
    if None in first or None in second:
        return f"{max(len(first), len(second))} seeds"
    return f"{len(first)} and {len(second)} unpaired seeds"


def _own_seed_parts(first: Runs, second: Runs, before: Array, after: Array) -> list[SeedPart]:
    parts = [seed_part(table) for table in (before, after) if table.shape[1] > 1]
    has_lone_run = any(len(runs) == 1 and None not in runs for runs in (first, second))
    return [_with_one_more_run(parts[0])] if has_lone_run else parts


def _with_one_more_run(part: SeedPart) -> SeedPart:
    """Add a run of another arm whose seeds are taken to vary as these do: s^2 (1/S + 1)."""
    factor = 1 + (part.num_free + 1)  # B is s^2 / S
    return SeedPart(part.between * factor, part.rest * factor, part.num_free)


def _level_of_zero(value: float, reach: Callable[[float], float]) -> float:
    """Find the p-value: 1 - the confidence at which the interval touches 0."""
    low, high = _SMALLEST_P, 1.0
    for _ in range(60):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if reach(1 - middle) > abs(value) else (low, middle)
    return high
