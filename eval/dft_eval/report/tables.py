"""A comparison's tables: means by domain, scores, differences with verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dft_eval.metrics import Estimate
from dft_eval.report.comparison import Compared, Comparison, Scores
from dft_eval.report.document import Cell, Table, Tone
from dft_eval.report.paper_claims import results_here

TONES: Mapping[str, Tone] = {"better": "good", "worse": "bad", "no decision": "open"}
DECIDED = ("better", "worse")
_READING = (
    "Differences in points, paired by problem and seed; 95% intervals, for new problems and, with several seeds, new "
    "seeds; verdicts after Holm's correction over all that an arm is compared on: benchmarks, and means of several. "
    "MDE: the true difference these would show with 80% power."
)


def domain_tables(comparison: Comparison, tasks: Sequence[str], failed: Sequence[str]) -> tuple[Table, ...]:
    """Scores of a domain's benchmarks, and the differences to each reference."""
    references = comparison.references if len(comparison.arms) > 1 else ()
    tables = [_difference_table(comparison, tasks, reference) for reference in references]
    return _score_table(comparison, tasks, failed), *(
        table for table in tables if table.rows and len(table.columns) > 1
    )


def summary_table(comparison: Comparison) -> Table:
    """Each arm's mean over the benchmarks of each domain, with its differences to the references."""
    domains = comparison.by_domain()
    rows = []
    for arm in comparison.arms:
        rows.append((Cell(arm), *(_mean_cell(comparison, names, arm) for names in domains.values())))
        for reference in comparison.references:
            if arm in comparison.others(reference):
                cells = (comparison.differences.get((tuple(names), arm, reference)) for names in domains.values())
                rows.append((Cell(f"against {reference}", is_part=True), *(_difference_cell(each) for each in cells)))
    means = "; ".join(f"{domain}: {', '.join(names)}" for domain, names in domains.items())
    note = f"Percent, the mean over a domain's benchmarks, each counting alike ({means}). {_READING}"
    return Table(("Arm", *domains), tuple(rows), note, "Means by domain")


def _score_table(comparison: Comparison, tasks: Sequence[str], failed: Sequence[str]) -> Table:
    places = [(task, column) for task in tasks for column in ("", *_reported(comparison, task))]
    named = dict.fromkeys(model for task, column in places for model in _paper(comparison, task, column))
    rows = tuple(
        (
            Cell(column, is_part=True) if column else _task_cell(comparison, task),
            *(_score_cell(comparison.grid.get((task, arm)), column, arm in failed) for arm in comparison.arms),
            Cell("; ".join(_paper(comparison, task, column).values()) or "-"),
        )
        for task, column in places
    )
    note = (
        "Percent, with 95% intervals over problems; over several seeds their mean, and the lowest and highest. "
        f"Paper: base / SFT / DFT of {'; '.join(named) or 'none of these'}."
    )
    return Table(("Benchmark", *comparison.arms, "Paper"), rows, note, "Scores")


def _difference_table(comparison: Comparison, tasks: Sequence[str], reference: str) -> Table:
    arms = comparison.others(reference)
    rows = tuple(
        (Cell(task), *(_difference_cell(comparison.compared(task, arm, reference)) for arm in arms)) for task in tasks
    )
    return Table(("Benchmark", *arms), rows, _READING, f"Differences to {reference}")


def _task_cell(comparison: Comparison, task: str) -> Cell:
    scores = next(scores for (name, _), scores in comparison.grid.items() if name == task)
    run = scores.any_run
    repeats = run.metrics["num_repeats"]
    answers = f"{repeats} answer{'' if repeats == 1 else 's'} each"
    return Cell(task, f"{run.metrics['protocol']}, n={run.metrics['n']}, {answers}")


def _reported(comparison: Comparison, task: str) -> list[str]:
    """The columns below the headline that any run of the benchmark reports; those of older versions report none."""
    columns = (
        run.metrics.get("reported", ())
        for (name, _), scores in comparison.grid.items()
        if name == task
        for run in scores.runs.values()
    )
    return list(dict.fromkeys(column for names in columns for column in names))


def _mean_cell(comparison: Comparison, tasks: Sequence[str], arm: str) -> Cell:
    mean = comparison.mean(tasks, arm)
    if mean is None:
        return Cell("-", "a benchmark not run, or partial")
    scores = [comparison.grid[task, arm] for task in tasks]
    mark = "" if all(each.is_complete for each in scores) else "subset"
    lost = list(dict.fromkeys(seed for each in scores for seed in each.lost))
    return Cell(_percent(mean.value), _joined(_interval(mean), mark, _lost_seeds(lost)))


def _score_cell(scores: Scores | None, column: str, has_failed: bool) -> Cell:
    """An arm's value in one column; the headline, where `column` is empty, is shown with its name."""
    if scores is None:
        return Cell("failed", "see above", "bad") if has_failed else Cell("-", "not run")
    if not scores.can_be_compared:
        return _partial_cell(scores, column)
    columns = [_columns(scores, seed) for seed in scores.runs]
    name = column or next(iter(columns[0]), "")
    if any(name not in each for each in columns):
        return Cell("-", "not in this run")
    mark = _joined("" if scores.is_complete else "subset", _lost_seeds(scores.lost))
    if len(scores.runs) == 1:
        estimate = Estimate(**columns[0][name])
        return Cell(_percent(estimate.value), _joined(_interval(estimate), "" if column else name, mark))
    if column:
        values = [each[name]["value"] for each in columns]
        mean = sum(values) / len(values)
        return Cell(_percent(mean), _joined(f"{_percent(min(values))} to {_percent(max(values))}", mark))
    share = scores.share
    spread = f"seeds {_percent(share.lowest)} to {_percent(share.highest)}"
    return Cell(_percent(share.estimate.value), _joined(_interval(share.estimate), spread, name, mark))


def _lost_seeds(seeds: Sequence[int | None]) -> str:
    return f"without seed {', '.join(map(str, seeds))}, which failed" if seeds else ""


def _partial_cell(scores: Scores, column: str) -> Cell:
    run = next(run for run in scores.runs.values() if not run.can_be_compared)
    columns = run.metrics.get("partial_metrics") or {}
    name = column or next(iter(columns), "")
    value = columns.get(name)
    shown = "-" if value is None else _percent(value["value"])
    if column:
        return Cell(f"PARTIAL {shown}", "" if value is None else f"of {value['num_items']} problems", "bad")
    return Cell(f"PARTIAL {shown} {name}".rstrip(), f"of {run.num_judged} answers", "bad")


def _columns(scores: Scores, seed: int | None) -> Mapping[str, dict[str, Any]]:
    metrics = scores.runs[seed].metrics
    found: Mapping[str, dict[str, Any]] = metrics.get("metrics") or metrics.get("partial_metrics") or {}
    return found


def _difference_cell(compared: Compared | None) -> Cell:
    if compared is None:
        return Cell("-", "not compared: not run, partial, or a seed failed")
    estimate = compared.difference.estimate
    interval = "no interval"
    if estimate.low is not None and estimate.high is not None:
        interval = f"{100 * estimate.low:+.1f} to {100 * estimate.high:+.1f}, p={compared.adjusted_p:.3g}"
    detectable = compared.difference.detectable
    smallest = "" if detectable is None else f"MDE {100 * detectable:.1f}"
    return Cell(f"{100 * estimate.value:+.1f} {compared.verdict}", _joined(interval, smallest), TONES[compared.verdict])


def _paper(comparison: Comparison, task: str, column: str) -> dict[str, str]:
    """The paper's figures by model and table, for the models the paper names as the runs do."""
    figures: dict[str, list[float]] = {}
    for result in results_here(comparison, task):
        if result.column == column:
            figures.setdefault(f"{result.model} ({result.source})", []).append(result.percent)
    return {model: _join_percents(percents) for model, percents in figures.items()}


def _join_percents(percents: Sequence[float]) -> str:
    """All with as many decimals as the longest, as the paper prints them."""
    decimals = max(len(f"{percent:g}".partition(".")[2]) for percent in percents)
    return " / ".join(f"{percent:.{decimals}f}" for percent in percents)


def _interval(estimate: Estimate) -> str:
    return (
        ""
        if estimate.low is None or estimate.high is None
        else f"{_percent(estimate.low)} to {_percent(estimate.high)}"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _joined(*parts: str) -> str:
    return ", ".join(filter(None, parts))
