"""What stands on top of a comparison: its finding, and the warnings a reader must not miss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dft_eval.report.comparison import Comparison
from dft_eval.report.runs import ComparedRun
from dft_eval.report.tables import DECIDED

_NUM_NAMED = 4


def headline_of(comparison: Comparison) -> str:
    """The finding in a sentence or two."""
    if len(comparison.arms) == 1:
        return f"{comparison.arms[0]} alone: nothing to compare with"
    return " ".join(_verdicts(comparison, reference) for reference in comparison.references)


def _verdicts(comparison: Comparison, reference: str) -> str:
    """The first decided comparisons by name, the number of the others."""
    found = {
        (tasks, arm): compared.verdict
        for (tasks, arm, against), compared in comparison.differences.items()
        if against == reference
    }
    decided = [
        f"{arm} is {verdict} on {_place(comparison, tasks)}"
        f"{' (one seed)' if comparison.grid[tasks[0], arm].has_one_seed else ''}"
        for (tasks, arm), verdict in found.items()
        if verdict in DECIDED
    ]
    num_open = len(found) - len(decided)
    more = f"{len(decided) - _NUM_NAMED} more decided" if len(decided) > _NUM_NAMED else ""
    rest = f"{num_open} of {len(found)} comparison{'s' * (len(found) > 1)} undecided" if num_open else ""
    said = "; ".join(filter(None, [*decided[:_NUM_NAMED], more, rest]))
    return f"Against {reference}: {said or 'nothing compared'}."


def _place(comparison: Comparison, tasks: tuple[str, ...]) -> str:
    """The benchmark, or the domain whose mean it is."""
    return tasks[0] if len(tasks) == 1 else f"the mean of {comparison.domain(tasks[0])}"


def banners_of(comparison: Comparison, runs: Sequence[ComparedRun], failed: Mapping[str, str]) -> list[str]:
    """Failures by model, partial runs, subsets, lone seeds."""
    banners = [f"FAILED: {name}: {reason.partition(chr(10))[0]}" for name, reason in failed.items()]
    banners += [
        f"PARTIAL: {run.name} on {run.task}: {'; '.join(run.metrics['incomplete_because'])}."
        for run in runs
        if not run.can_be_compared
    ]
    subsets = {run.task: "; ".join(run.metrics["incomplete_because"]) for run in runs if run.is_subset}
    if subsets:
        asked = "; ".join(f"{task} ({reason})" for task, reason in subsets.items())
        banners.append(f"First samples alone, compared with each other and never to be quoted: {asked}.")
    seeds: dict[str, set[int]] = {}
    for run in runs:
        if run.seed is not None:
            seeds.setdefault(run.model, set()).add(run.seed)
    if lone := [arm for arm, found in seeds.items() if len(found) == 1]:
        banners.append(
            f"One training seed: {', '.join(lone)}. Another run may differ by more than these intervals, "
            "which are over problems."
        )
    return banners
