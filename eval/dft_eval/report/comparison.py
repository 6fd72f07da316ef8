"""Arms over seeds on benchmarks, and every difference that is reported, with its verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from dft_eval.metrics import ALPHA, Difference, Estimate, SeededShare, domain_mean, seeded_share
from dft_eval.report.runs import ComparedRun


@dataclass(frozen=True)
class Scores:
    """An arm on one benchmark.

    Attributes:
        runs: One a seed.
        lost: Seeds whose model failed and has no run here. A seed that fails is not missing at random.
    """

    runs: Mapping[int | None, ComparedRun]
    lost: tuple[int | None, ...] = ()

    @property
    def any_run(self) -> ComparedRun:
        """One of them; they agree in everything but the model."""
        return next(iter(self.runs.values()))

    @property
    def can_be_compared(self) -> bool:
        """True where no run lacks anything that was asked."""
        return all(run.can_be_compared for run in self.runs.values())

    @property
    def can_be_judged(self) -> bool:
        """True where no seed is missing either."""
        return self.can_be_compared and not self.lost

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

    def record(self) -> dict[str, Any]:
        """All of it unrounded, for JSON."""
        return asdict(self.difference) | {"holm_p_value": self.adjusted_p, "verdict": self.verdict}


@dataclass(frozen=True)
class Comparison:
    """Everything a report is about.

    Attributes:
        arms: The baseline, SFT, DFT, then in the order given.
        tasks: Benchmarks, grouped by domain.
        grid: The scores.
        sft: The arm that stands for SFT: of that name, or the best of its grid; None where there is none.
        differences: By benchmarks (one, or several of one domain, whose mean is compared), arm, and the arm it is
            compared with.
    """

    arms: tuple[str, ...]
    tasks: tuple[str, ...]
    grid: Grid
    sft: str | None
    differences: Mapping[tuple[tuple[str, ...], str, str], Compared]

    @property
    def baseline(self) -> str:
        """The arm all others are compared with."""
        return self.arms[0]

    @property
    def references(self) -> tuple[str, ...]:
        """The baseline, and SFT where there are further arms to compare with it."""
        has_others = len(self.arms) > 2 and self.sft is not None
        return (self.baseline, self.sft) if has_others and self.sft not in (None, self.baseline) else (self.baseline,)

    def others(self, reference: str) -> list[str]:
        """The arms that are compared with one."""
        return [arm for arm in self.arms if arm not in (reference, self.baseline)]

    def compared(self, task: str, arm: str, reference: str) -> Compared | None:
        """An arm's difference on one benchmark; None where it is not compared."""
        return self.differences.get(((task,), arm, reference))

    def mean(self, tasks: Sequence[str], arm: str) -> Estimate | None:
        """Mean over an arm's benchmarks, each counting alike; None where one is missing or partial."""
        found = [self.grid.get((task, arm)) for task in tasks]
        shares = [each.share.estimate for each in found if each is not None and each.can_be_compared]
        return domain_mean(shares) if len(shares) == len(tasks) else None

    def domain(self, task: str) -> str:
        """Domain of a benchmark."""
        return next(str(scores.any_run.metrics["domain"]) for (name, _), scores in self.grid.items() if name == task)

    def by_domain(self) -> dict[str, list[str]]:
        """The benchmarks of each domain."""
        groups: dict[str, list[str]] = {}
        for task in self.tasks:
            groups.setdefault(self.domain(task), []).append(task)
        return groups
