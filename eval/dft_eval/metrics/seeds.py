"""Scores of and differences between arms that were trained with several seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dft_eval.metrics.crossed import (
    Array,
    SeedPart,
    combined_reach,
    level_of_zero,
    problem_part,
    seed_part,
    two_sided,
    with_power,
)
from dft_eval.metrics.differences import POWER, Difference, decide, paired_difference, sign_flip_p_value, unseen_reach
from dft_eval.metrics.estimates import CONFIDENCE, Estimate, are_equal
from dft_eval.metrics.shares import score_share

Runs = Mapping[int | None, Mapping[str, float]]
"""Mean score of each problem, by the seed of the run; the only seed None is a model that was not trained."""


@dataclass(frozen=True)
class SeededShare:
    """An arm's score over its training seeds.

    Attributes:
        estimate: Mean over the seeds, with the interval for new problems and these runs.
        by_seed: Mean over the problems, by seed.
        lowest: Of the seeds.
        highest: Of the seeds.
    """

    estimate: Estimate
    by_seed: Mapping[int | None, float]
    lowest: float
    highest: float


def seeded_share(runs: Runs, confidence: float = CONFIDENCE) -> SeededShare:
    """An arm's score over its seeds: interval over problems, range over seeds.

    A problem's score is the mean over the runs, so the interval is that of `score_share` for several answers.

    Args:
        runs: Mean score of each problem, by seed.
        confidence: Coverage.

    Raises:
        ValueError: no run, or runs on different problems.
    """
    _check_seeds({"": runs}, {"": runs})
    table, _ = _tables(runs, runs)
    problems = list(next(iter(runs.values())))
    estimate = score_share(table.ravel().tolist(), [problem for problem in problems for _ in runs], confidence)
    by_seed = {seed: math.fsum(scores.values()) / len(scores) for seed, scores in runs.items()}
    return SeededShare(estimate, by_seed, min(by_seed.values()), max(by_seed.values()))


def seeded_difference(
    first: Runs, second: Runs, confidence: float = CONFIDENCE, *, others: Sequence[Runs] = ()
) -> Difference:
    """Second arm minus first, for new problems and new training seeds.

    Arms with the same seeds are paired by seed and problem. A model that was not trained (seed None) stands against
    every seed of the other. Arms with other seeds are paired by problem alone: each adds the variance between its
    own seeds, and a trained arm with one seed is taken to vary as the other does. One run each is
    `paired_difference`, whose interval is for new problems and these runs.

    Two seeds leave one degree of freedom. Where further arms are given, the seeds of all are taken to vary alike and
    their variances are pooled, as in an analysis of variance: each arm adds its degrees of freedom. Seeds are not
    paired then, which is on the safe side where runs of one seed are alike.

    The interval is that of `crossed`: Student's t for problems and for seeds, each with its own degrees of freedom.
    The p-value is the larger of two: the level at which this interval touches 0, and the sign-flip test of the
    problems' differences, which holds where few problems differ.

    Args:
        first: Runs of the arm to compare with.
        second: Runs of the other arm.
        confidence: Coverage.
        others: Runs of further arms on the same problems; those that were not trained, or once, say nothing.

    Raises:
        ValueError: no run, runs on different problems, or a seed None beside others.
    """
    _check_seeds({"": first}, {"": second})
    if len(first) == len(second) == 1:
        return paired_difference(next(iter(first.values())), next(iter(second.values())), confidence)
    return _difference({"": first}, {"": second}, confidence, [{"": runs} for runs in others])


def domain_difference(
    first: Mapping[str, Runs],
    second: Mapping[str, Runs],
    confidence: float = CONFIDENCE,
    *,
    others: Sequence[Mapping[str, Runs]] = (),
) -> Difference:
    """Second arm minus first, averaged over benchmarks of which each counts alike.

    Problems are a sample within each benchmark; the benchmarks are these. A seed is one training run for all
    benchmarks, so it is not averaged away by them. Else as `seeded_difference`.

    Args:
        first: Runs of the arm to compare with, by benchmark.
        second: Runs of the other arm on the same benchmarks.
        confidence: Coverage.
        others: Runs of further arms on the same benchmarks.

    Raises:
        ValueError: as `seeded_difference`, other benchmarks, or other seeds in one benchmark than in another.
    """
    _check_seeds(first, second)
    return _difference(first, second, confidence, others)


def _difference(
    firsts: Mapping[str, Runs],
    seconds: Mapping[str, Runs],
    confidence: float,
    others: Sequence[Mapping[str, Runs]],
) -> Difference:
    tables = [_tables(firsts[name], seconds[name]) for name in firsts]
    first, second = (next(iter(arm.values())) for arm in (firsts, seconds))
    deltas = [after.mean(axis=1) - before.mean(axis=1) for before, after in tables]
    count, value = sum(map(len, deltas)), math.fsum(float(each.mean()) for each in deltas) / len(deltas)
    if any(len(each) == 1 for each in deltas):
        return Difference(Estimate(value, None, None, count, "one problem: no interval"), 1.0, "no decision", None)
    others_tables = [_more_tables(firsts, other) for other in others if None not in next(iter(other.values()))]
    problems, seeds = problem_part(deltas), _seed_parts(first, second, tables, others_tables)
    equal = [each for each in deltas if are_equal(each)]

    def reach(level: float) -> float:
        unseen = [unseen_reach(float(each[0]), len(each), level) / len(deltas) for each in equal]
        return math.hypot(float(combined_reach(problems, seeds, two_sided(level))), *unseen)

    weighted = np.concatenate([each * (count / len(each) / len(deltas)) for each in deltas])
    p_value = max(float(level_of_zero(value, reach)), sign_flip_p_value(weighted.tolist()))
    low, high = max(-1.0, value - reach(confidence)), min(1.0, value + reach(confidence))
    estimate = Estimate(value, low, high, count, f"Student t over problems{_pairing(first, second, others)}")
    verdict = decide(estimate, p_value, confidence)
    if equal:  # of a benchmark whose differences do not vary nobody knows what it would show
        return Difference(estimate, p_value, verdict, None)
    detectable = float(combined_reach(problems, seeds, with_power(confidence, POWER)))
    return Difference(estimate, p_value, verdict, detectable or None)


def _check_seeds(firsts: Mapping[str, Runs], seconds: Mapping[str, Runs]) -> None:
    if firsts.keys() != seconds.keys() or not firsts:
        raise ValueError(f"benchmarks {sorted(firsts)} and {sorted(seconds)}; compare arms on the same ones.")
    for arm in (firsts, seconds):
        seeds = next(iter(arm.values())).keys()
        if not seeds or (None in seeds and len(seeds) > 1):
            found = ", ".join(map(str, seeds)) or "none"
            raise ValueError(f"the seeds of an arm are {found}; give one run or more, and None as the only one.")
        if any(runs.keys() != seeds for runs in arm.values()):
            raise ValueError("an arm has other seeds in one benchmark than in another; use the same ones.")


def _tables(first: Runs, second: Runs) -> tuple[Array, Array]:
    problems = next(iter(first.values())).keys()
    for scores in (*first.values(), *second.values()):
        if scores.keys() != problems:
            odd = sorted(scores.keys() ^ problems)
            raise ValueError(f"runs differ in {len(odd)} problems ({', '.join(odd[:3])} ...); score all on the same.")
    if not problems:
        raise ValueError("no problems; at least one is needed.")
    return _table(first, list(problems)), _table(second, list(problems))


def _table(runs: Runs, problems: list[str]) -> Array:
    ordered = [runs[seed] for seed in sorted(runs, key=lambda seed: -1 if seed is None else seed)]
    return np.array([[scores[problem] for scores in ordered] for problem in problems], dtype=np.float64)


def _pairing(first: Runs, second: Runs, others: Sequence[Mapping[str, Runs]]) -> str:
    if len(first) == len(second) == 1:
        return ""
    if others:
        return f" and {len(first)} and {len(second)} seeds, pooled with {len(others)} other arms"
    if first.keys() == second.keys():
        return f" and {len(first)} paired seeds"
    if None in first or None in second:
        return f" and {max(len(first), len(second))} seeds"
    return f" and {len(first)} and {len(second)} unpaired seeds"


def _more_tables(firsts: Mapping[str, Runs], other: Mapping[str, Runs]) -> list[Array]:
    _check_seeds(firsts, other)
    return [_tables(firsts[name], other[name])[1] for name in firsts]


def _seed_parts(
    first: Runs, second: Runs, tables: list[tuple[Array, Array]], others: list[list[Array]]
) -> list[SeedPart]:
    if len(first) == len(second) == 1:
        return []
    befores, afters = map(list, zip(*tables, strict=True))
    has_lone_run = any(len(runs) == 1 and None not in runs for runs in (first, second))
    if others or has_lone_run:
        weight = sum(1 / len(runs) for runs in (first, second) if None not in runs)
        return [pooled_seed_part([befores, afters, *others], weight)]
    if first.keys() == second.keys():
        return [seed_part([after - before for before, after in tables])]
    return [seed_part(arm) for arm in (befores, afters) if arm[0].shape[-1] > 1]


def pooled_seed_part(arms: list[list[Array]], weight: float) -> SeedPart:
    """Give B and C where the seeds of all arms vary alike; the weight is 1 over the seeds of each compared arm."""
    parts = [(seed_part(arm), arm[0].shape[-1]) for arm in arms if arm[0].shape[-1] > 1]
    num_free = sum(part.num_free for part, _ in parts)
    between = sum(part.num_free * part.variance * num_seeds for part, num_seeds in parts)  # B is s^2 / S
    rest = sum(part.num_free * part.rest * num_seeds for part, num_seeds in parts)
    return SeedPart(between / num_free * weight, rest / num_free * weight, num_free)
