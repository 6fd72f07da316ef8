"""Joining runs to arms, and comparing them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dft_eval.errors import ConfigError
from dft_eval.metrics import Difference, domain_difference, holm, seeded_difference, seeded_share
from dft_eval.report.arms import About
from dft_eval.report.comparison import Compared, Comparison, Grid, Scores
from dft_eval.report.runs import ComparedRun

SFT = "sft"
"""The arm that every other is compared with besides the baseline, where there is one of that name."""
_FIRST = (SFT, "dft")


def compare_arms(runs: Sequence[ComparedRun], abouts: Sequence[About], baseline: str | None) -> Comparison:
    """Join runs to arms and compare them.

    Args:
        runs: All of them.
        abouts: What made the models. Arms that failed stand in the report whether or not there are runs.
        baseline: The arm the others are compared with; None takes the first.

    Raises:
        ConfigError: no such arm, or arms whose runs are on different problems.
    """
    failed = [about for about in abouts if about.failed is not None]
    arms = list(dict.fromkeys([*(run.model for run in runs), *(about.arm for about in failed)]))
    first = arms[0] if baseline is None else baseline
    if first not in arms:
        raise ConfigError(f"--baseline {first}: no such arm; there are {', '.join(arms)}.")
    ordered = tuple(dict.fromkeys([first, *(arm for arm in _FIRST if arm in arms), *arms]))
    found: dict[tuple[str, str], dict[int | None, ComparedRun]] = {}
    for run in runs:
        found.setdefault((run.task, run.model), {})[run.seed] = run
    grid = {
        (task, arm): Scores(seeds, tuple(each.seed for each in failed if each.arm == arm and each.seed not in seeds))
        for (task, arm), seeds in found.items()
    }
    for place, each in grid.items():
        _check_seeds(place, each)
    as_given = Comparison(ordered, tuple(dict.fromkeys(run.task for run in runs)), grid, None, {})
    tasks = tuple(task for names in as_given.by_domain().values() for task in names)
    laid_out = replace(as_given, tasks=tasks, sft=_sft_of(as_given, abouts))
    return replace(laid_out, differences=_compare_all(laid_out))


def _sft_of(comparison: Comparison, abouts: Sequence[About]) -> str | None:
    """The arm called SFT, or the best of its grid by the mean over all benchmarks: a choice that favours SFT."""
    if SFT in comparison.arms:
        return SFT
    arms = dict.fromkeys(about.arm for about in abouts if about.grid_of == SFT)
    means = {arm: comparison.mean(comparison.tasks, arm) for arm in arms}
    whole = {arm: mean.value for arm, mean in means.items() if mean is not None}
    return max(whole, key=whole.__getitem__) if whole and comparison.tasks else None


def _check_seeds(place: tuple[str, str], scores: Scores) -> None:
    if len(scores.runs) == 1 or not scores.can_be_compared:
        return
    try:
        seeded_share(scores.by_seed)
    except ValueError as error:
        raise ConfigError(f"The runs of {place[1]} on {place[0]} cannot be joined: {error}") from error


def _compare_all(laid_out: Comparison) -> dict[tuple[tuple[str, ...], str, str], Compared]:
    means = [tuple(names) for names in laid_out.by_domain().values() if len(names) > 1]
    places = [*((task,) for task in laid_out.tasks), *means]
    compared: dict[tuple[tuple[str, ...], str, str], Compared] = {}
    for reference in laid_out.references:
        for arm in laid_out.others(reference):
            found = {
                tasks: difference
                for tasks in places
                if (difference := _compare(laid_out.grid, tasks, reference, arm)) is not None
            }
            adjusted = holm([difference.p_value for difference in found.values()])
            for (tasks, difference), p_value in zip(found.items(), adjusted, strict=True):
                compared[tasks, arm, reference] = Compared(difference, p_value)
    return compared


def _compare(grid: Grid, tasks: tuple[str, ...], reference: str, arm: str) -> Difference | None:
    """None where one is missing, or lacks something that was asked: that is not missing at random."""
    firsts, seconds = _by_task(grid, tasks, reference), _by_task(grid, tasks, arm)
    if firsts is None or seconds is None:
        return None
    try:
        if len(tasks) == 1:
            return seeded_difference(firsts[tasks[0]], seconds[tasks[0]])
        return domain_difference(firsts, seconds)
    except ValueError as error:
        raise ConfigError(f"{reference} and {arm} on {', '.join(tasks)} cannot be compared: {error}") from error


def _by_task(grid: Grid, tasks: tuple[str, ...], arm: str) -> dict[str, dict[int | None, dict[str, float]]] | None:
    """An arm's values; None where a benchmark lacks something, or has other seeds than another."""
    found = {task: grid.get((task, arm)) for task in tasks}
    judged = {task: scores.by_seed for task, scores in found.items() if scores is not None and scores.can_be_judged}
    is_even = len({frozenset(seeds) for seeds in judged.values()}) == 1
    return judged if len(judged) == len(tasks) and is_even else None
