"""The top of a comparison: its finding, and the warnings a reader must not miss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dft_eval.report.comparison import Comparison
from dft_eval.report.runs import ComparedRun
from dft_eval.report.tables import DECIDED

_NUM_ARMS, _NUM_PLACES = 2, 3


def headline_of(comparison: Comparison) -> str:
    """The finding in a sentence or two."""
    if len(comparison.arms) == 1:
        return f"{comparison.arms[0]} alone: nothing to compare with"
    return " ".join(_verdicts(comparison, reference) for reference in comparison.references)


def _verdicts(comparison: Comparison, reference: str) -> str:
    """The decided comparisons by arm, the number of the others."""
    found = [
        (arm, compared.verdict, _place(comparison, tasks), comparison.grid[tasks[0], arm].has_one_seed)
        for (tasks, arm, against), compared in comparison.differences.items()
        if against == reference
    ]
    decided: dict[str, list[str]] = {}
    for arm, verdict, place, has_one_seed in found:
        if verdict in DECIDED:
            decided.setdefault(f"{arm}{' (one seed)' if has_one_seed else ''} is {verdict} on", []).append(place)
    named = [f"{said} {_listed(places)}" for said, places in decided.items()]
    num_more = sum(map(len, list(decided.values())[_NUM_ARMS:]))
    more = f"{num_more} more decided" if num_more else ""
    num_open = len(found) - sum(map(len, decided.values()))
    rest = f"{num_open} of {len(found)} comparison{'s' * (len(found) > 1)} undecided" if num_open else ""
    said = "; ".join(filter(None, [*named[:_NUM_ARMS], more, rest]))
    return f"Against {reference}: {said or 'nothing compared'}."


def _listed(places: list[str]) -> str:
    """The first few by name."""
    num_more = len(places) - _NUM_PLACES + 1
    named = places if len(places) <= _NUM_PLACES else [*places[:-num_more], f"{num_more} more"]
    return " and ".join(filter(None, [", ".join(named[:-1]), named[-1]]))


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
