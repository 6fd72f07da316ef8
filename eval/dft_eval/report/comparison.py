"""Runs as arms over seeds, and every difference that is reported, with its verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from dft_eval.errors import ConfigError
from dft_eval.metrics import ALPHA, Difference, Estimate, SeededShare, holm, seeded_difference, seeded_share
from dft_eval.report.runs import ComparedRun

SFT = "sft"
"""The arm that every other is compared with besides the baseline, where there is one of that name."""


@dataclass(frozen=True)
class Scores:
    """An arm on one benchmark.

    Attributes:
        runs: One a seed.
    """

    runs: Mapping[int | None, ComparedRun]

    @property
    def any_run(self) -> ComparedRun:
        """One of them; they agree in everything but the model."""
        return next(iter(self.runs.values()))

    @property
    def can_be_compared(self) -> bool:
        """True where no run lacks anything that was asked."""
        return all(run.can_be_compared for run in self.runs.values())

    @property
    def has_one_seed(self) -> bool:
        """True for one training run: what is decided holds for it, not for others."""
        return len(self.runs) == 1 and None not in self.runs

    @property
    def is_complete(self) -> bool:
        """True where all runs are whole."""
        return all(run.is_complete for run in self.runs.values())

    @property
    def by_seed(self) -> dict[int | None, dict[str, float]]:
        """The value of each problem, by seed."""
        return {seed: run.by_problem for seed, run in self.runs.items()}

    @cached_property
    def share(self) -> SeededShare:
        """The headline over the seeds; of runs that can be compared."""
        if len(self.runs) > 1:
            return seeded_share(self.by_seed)
        headline = dict(self.any_run.headline or {})
        headline.pop("name")
        estimate = Estimate(**headline)
        return SeededShare(estimate, dict.fromkeys(self.runs, estimate.value), estimate.value, estimate.value)


Grid = Mapping[tuple[str, str], Scores]
"""By benchmark and arm."""


@dataclass(frozen=True)
class Compared:
    """An arm's difference to another on one benchmark.

    Attributes:
        difference: The arm minus the other.
        adjusted_p: After Holm's correction over the arm's benchmarks.
    """

    difference: Difference
    adjusted_p: float

    @property
    def verdict(self) -> str:
        """It holds after the correction."""
        return self.difference.verdict if self.adjusted_p < ALPHA else "no decision"


@dataclass(frozen=True)
class Comparison:
    """Everything a report is about.

    Attributes:
        arms: In the order given, the baseline first.
        tasks: Benchmarks, grouped by domain.
        grid: The scores.
        differences: By benchmark, arm, and the arm it is compared with.
    """

    arms: tuple[str, ...]
    tasks: tuple[str, ...]
    grid: Grid
    differences: Mapping[tuple[str, str, str], Compared]

    @property
    def baseline(self) -> str:
        """The arm all others are compared with."""
        return self.arms[0]

    @property
    def references(self) -> tuple[str, ...]:
        """The baseline, and SFT where there are further arms to compare with it."""
        has_others = len(self.arms) > 2 and SFT in self.arms
        return (self.baseline, SFT) if has_others and self.baseline != SFT else (self.baseline,)

    def others(self, reference: str) -> list[str]:
        """The arms that are compared with one."""
        return [arm for arm in self.arms if arm not in (reference, self.baseline)]

    def domain(self, task: str) -> str:
        """Domain of a benchmark."""
        return next(str(scores.any_run.metrics["domain"]) for (name, _), scores in self.grid.items() if name == task)

    def by_domain(self) -> dict[str, list[str]]:
        """The benchmarks of each domain."""
        groups: dict[str, list[str]] = {}
        for task in self.tasks:
            groups.setdefault(self.domain(task), []).append(task)
        return groups


def compare_arms(runs: Sequence[ComparedRun], failed: Sequence[str], baseline: str | None) -> Comparison:
    """Join runs to arms and compare them.

    Args:
        runs: All of them.
        failed: Arms that failed; they stand in the report whether or not there are runs.
        baseline: The arm the others are compared with; None takes the first.

    Raises:
        ConfigError: no such arm, or arms whose runs are on different problems.
    """
    arms = list(dict.fromkeys([*(run.model for run in runs), *failed]))
    first = arms[0] if baseline is None else baseline
    if first not in arms:
        raise ConfigError(f"--baseline {first}: no such arm; there are {', '.join(arms)}.")
    ordered = (first, *(arm for arm in arms if arm != first))
    grid: dict[tuple[str, str], dict[int | None, ComparedRun]] = {}
    for run in runs:
        grid.setdefault((run.task, run.model), {})[run.seed] = run
    scores = {place: Scores(found) for place, found in grid.items()}
    for place, each in scores.items():
        _check_seeds(place, each)
    as_given = Comparison(ordered, tuple(dict.fromkeys(run.task for run in runs)), scores, {})
    laid_out = replace(as_given, tasks=tuple(task for names in as_given.by_domain().values() for task in names))
    return replace(laid_out, differences=_compare_all(laid_out))


def _check_seeds(place: tuple[str, str], scores: Scores) -> None:
    if len(scores.runs) == 1 or not scores.can_be_compared:
        return
    try:
        seeded_share(scores.by_seed)
    except ValueError as error:
        raise ConfigError(f"The runs of {place[1]} on {place[0]} cannot be joined: {error}") from error


def _compare_all(laid_out: Comparison) -> dict[tuple[str, str, str], Compared]:
    compared: dict[tuple[str, str, str], Compared] = {}
    for reference in laid_out.references:
        for arm in laid_out.others(reference):
            found = {
                task: difference
                for task in laid_out.tasks
                if (difference := _compare(laid_out.grid, task, reference, arm)) is not None
            }
            adjusted = holm([difference.p_value for difference in found.values()])
            for (task, difference), p_value in zip(found.items(), adjusted, strict=True):
                compared[task, arm, reference] = Compared(difference, p_value)
    return compared


def _compare(grid: Grid, task: str, reference: str, arm: str) -> Difference | None:
    """None where one is missing, or lacks something that was asked: that is not missing at random."""
    first, second = grid.get((task, reference)), grid.get((task, arm))
    if first is None or second is None or not (first.can_be_compared and second.can_be_compared):
        return None
    try:
        return seeded_difference(first.by_seed, second.by_seed)
    except ValueError as error:
        raise ConfigError(f"{reference} and {arm} on {task} cannot be compared: {error}") from error
