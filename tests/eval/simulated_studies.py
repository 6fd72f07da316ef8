"""Simulated studies: passes of arms on problems under seeds, and the parts of their differences' variance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import special

from dft_eval.metrics.crossed import ProblemPart, SeedPart, combined_reach, problem_part, seed_part, two_sided
from dft_eval.metrics.differences import unseen_reach

CELLS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Study:
    """What studies are simulated from.

    Attributes:
        num_problems: P.
        accuracies: Of the arms, over all problems and seeds.
        effect: Standard deviation that seeds add to the difference, over that of problems in one run.
        shared: Share of problems with one answer of all runs.
        stable: Share of problems with one answer of an arm's runs.
        spreads: What the seeds' effect is multiplied by in each arm; empty for 1.
    """

    num_problems: int
    accuracies: tuple[float, ...]
    effect: float = 0.0
    shared: float = 0.4
    stable: float = 0.2
    spreads: tuple[float, ...] = ()

    @property
    def seed_sd(self) -> float:
        """Standard deviation of a run's accuracy between seeds; the difference of two has the root of two of it."""
        return self.effect * float(np.sqrt(self.variance / self.num_problems / 2))

    @property
    def variance(self) -> float:
        """Variance of the difference of one problem between the first two arms, in one run each."""
        first, second = self.accuracies[:2]
        apart = first * (1 - second) + second * (1 - first)
        change = second - first
        return self.shared * abs(change) + (1 - self.shared) * apart - change**2

    @property
    def num_disagreements(self) -> float:
        """Problems on which the first two arms differ in one run each, on average."""
        return self.num_problems * (self.variance + (self.accuracies[1] - self.accuracies[0]) ** 2)

    def true_differences(self) -> Any:
        """Mean difference of each arm from the first, over all problems and seeds."""
        noise = self.seed_sd * special.ndtri((np.arange(100_000) + 0.5) / 100_000)
        means = [np.clip(accuracy + noise, 0, 1).mean() for accuracy in self.accuracies]
        return np.array(means[1:]) - means[0]


def simulate(study: Study, num_studies: int, num_seeds: int, rng: np.random.Generator) -> Any:
    """Simulate passes, of shape (studies, arms, problems, seeds)."""
    shape = (num_studies, 1, study.num_problems, 1)
    num_arms = len(study.accuracies)

    def uniform(*repeats: int) -> Any:
        return rng.random(tuple(map(int, np.multiply(shape, repeats))), dtype=np.float32)

    kind, of_problem, of_arm = uniform(1, 1, 1, 1), uniform(1, 1, 1, 1), uniform(1, num_arms, 1, 1)
    shifts = rng.normal(0, study.seed_sd, (num_studies, num_arms, 1, num_seeds))
    shifts *= np.reshape(study.spreads or (1.0,) * num_arms, (1, -1, 1, 1))
    chances = np.clip(np.reshape(study.accuracies, (1, -1, 1, 1)) + shifts, 0, 1).astype(np.float32)
    draws = uniform(1, num_arms, 1, num_seeds)
    np.copyto(draws, of_arm, where=kind < study.shared + study.stable)
    np.copyto(draws, of_problem, where=kind < study.shared)
    return draws < chances


def in_batches(study: Study, num_studies: int, num_seeds: int, rng: np.random.Generator) -> Iterator[Any]:
    """Simulate studies as `simulate`, as many at once as fit."""
    size = max(1, CELLS_AT_ONCE // (study.num_problems * num_seeds * len(study.accuracies)))
    for start in range(0, num_studies, size):
        yield simulate(study, min(size, num_studies - start), num_seeds, rng)


@dataclass
class Parts:
    """Mean difference of many comparisons with the parts of its variance, as `dft_eval.metrics` estimates them."""

    value: Any
    problems: ProblemPart
    seeds: list[SeedPart]

    @classmethod
    def of(cls, differences: Any) -> Parts:
        """Estimate from differences of shape (..., P, S)."""
        means = differences.mean(axis=-1)
        seeds = [seed_part([differences])] if differences.shape[-1] > 1 else []
        return cls(means.mean(axis=-1), problem_part([means]), seeds)

    @classmethod
    def joined(cls, batches: list[Parts]) -> Parts:
        """Put batches together."""
        first = batches[0]
        problems = np.concatenate([batch.problems.variance for batch in batches])
        seeds = [
            SeedPart(
                np.concatenate([batch.seeds[index].variance for batch in batches]),
                np.concatenate([batch.seeds[index].rest for batch in batches]),
                part.num_free,
            )
            for index, part in enumerate(first.seeds)
        ]
        value = np.concatenate([batch.value for batch in batches])
        return cls(value, ProblemPart(problems, first.problems.num_free), seeds)

    def reach(self, confidence: Any) -> Any:
        """Half-width of the interval, that of `seeded_difference`."""
        reach = combined_reach(self.problems, self.seeds, two_sided(confidence))
        unseen = unseen_reach(self.value, self.problems.num_free + 1, confidence)
        return np.where(self.problems.variance == 0, np.hypot(reach, unseen), reach)

    def problems_alone(self, confidence: float) -> Any:
        """Half-width that takes these seeds for all there are."""
        return replace(self, seeds=[]).reach(confidence)

    def satterthwaite(self, confidence: float) -> Any:
        """Half-width from one variance with Satterthwaite's degrees of freedom, which may not be more than P - 1."""
        if not self.seeds:
            return self.reach(confidence)
        of_problems, of_seeds, rest = self.problems.variance, self.seeds[0].variance, self.seeds[0].rest
        free = (self.problems.num_free, self.seeds[0].num_free)
        total = of_problems + of_seeds - rest
        squares = of_problems**2 / free[0] + of_seeds**2 / free[1] + rest**2 / free[0] / free[1]
        num_free = np.clip(total**2 / np.maximum(squares, 1e-300), free[1], free[0])
        variance = np.maximum.reduce([total, of_problems, of_seeds])
        return special.stdtrit(num_free, (1 + confidence) / 2) * np.sqrt(variance)
