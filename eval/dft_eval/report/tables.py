"""A comparison's tables: under every benchmark or domain its arms, with their scores, differences and verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dft_eval.metrics import Estimate
from dft_eval.report.comparison import Compared, Comparison, Scores
from dft_eval.report.document import Cell, Table, Tone
from dft_eval.report.paper_claims import results_here
from dft_eval.report.paper_results import NOT_STATED
from dft_eval.report.wording import interval, percent, points, points_interval

READING = (
    "Percent, with 95% intervals over problems; of several seeds the mean, with the lowest and highest. Differences in "
    "points, paired by problem and seed, with 95% intervals for new problems and, with several seeds, new seeds; "
    "verdicts after Holm's correction over all that an arm is compared on: benchmarks, and means of several. MDE: the "
    "true difference these would show with 80% power."
)
TONES: Mapping[str, Tone] = {"better": "good", "worse": "bad", "no decision": "open"}
DECIDED = ("better", "worse")

_Row = tuple[Cell, ...]


def summary_table(comparison: Comparison) -> Table:
    """Each arm's mean over the benchmarks of each domain, with its differences to the references."""
    rows: list[_Row] = []
    for domain, names in comparison.by_domain().items():
        benchmarks = f"mean of {', '.join(names)}, each counting alike" if len(names) > 1 else names[0]
        rows.append(_head(comparison, Cell(domain, benchmarks)))
        for arm in comparison.arms:
            cells = [comparison.differences.get((tuple(names), arm, each)) for each in _references(comparison)]
            rows.append((Cell(arm, is_part=True), _mean_cell(comparison, names, arm), *_cells(comparison, arm, cells)))
    return Table(("Domain", "score", *_against(comparison)), tuple(rows), READING, "Means by domain")


def domain_table(comparison: Comparison, tasks: Sequence[str], failed: Sequence[str]) -> Table:
    """Scores of a domain's benchmarks and their differences to the references, and what the paper reports."""
    rows: list[_Row] = []
    papers: dict[str, None] = {}
    for task in tasks:
        for column in ("", *_reported(comparison, task)):
            paper = _paper(comparison, task, column)
            papers |= dict.fromkeys(paper)
            head = Cell(f"{task}: {column}") if column else _task_cell(comparison, task)
            note = _joined(head.note, *_without_arm(comparison, paper))
            rows.append((*_head(comparison, replace(head, note=note)), Cell("")))
            for arm in comparison.arms:
                score = _score_cell(comparison.grid.get((task, arm)), column, arm in failed)
                found = [comparison.compared(task, arm, reference) for reference in _references(comparison)]
                cells = [Cell("") for _ in found] if column else _cells(comparison, arm, found)
                figures = "; ".join(percents[arm] for percents in paper.values() if arm in percents)
                rows.append((Cell(arm, is_part=True), score, *cells, Cell(figures)))
    heads = ("Benchmark", "score", *_against(comparison))
    if not papers:
        return Table(heads, tuple(row[:-1] for row in rows), "", "Scores")
    return Table((*heads, "paper"), tuple(rows), f"Paper: {'; '.join(papers)}.", "Scores")


def _head(comparison: Comparison, cell: Cell) -> _Row:
    return (cell, Cell(""), *(Cell("") for _ in _references(comparison)))


def _references(comparison: Comparison) -> tuple[str, ...]:
    return comparison.references if len(comparison.arms) > 1 else ()


def _against(comparison: Comparison) -> tuple[str, ...]:
    return tuple(f"against {reference}" for reference in _references(comparison))


def _cells(comparison: Comparison, arm: str, found: Sequence[Compared | None]) -> list[Cell]:
    """An arm's differences to the references; empty where the question does not arise."""
    pairs = zip(_references(comparison), found, strict=True)
    return [_difference_cell(each) if arm in comparison.others(reference) else Cell("") for reference, each in pairs]


def _task_cell(comparison: Comparison, task: str) -> Cell:
    scores = [scores for (name, _), scores in comparison.grid.items() if name == task]
    run = scores[0].any_run
    repeats = run.metrics["num_repeats"]
    headlines = (each.any_run.headline for each in scores)
    name = next((str(headline["name"]) for headline in headlines if headline is not None), "")
    answers = f"{repeats} answer{'' if repeats == 1 else 's'} each"
    subset = f"subset: {'; '.join(run.metrics['incomplete_because'])}" if run.is_subset else ""
    return Cell(task, _joined(name, run.metrics["protocol"], f"n={run.metrics['n']}", answers, subset))


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
        return Cell("-", "a benchmark not run, or partial" if len(tasks) > 1 else "not run, or partial")
    scores = [comparison.grid[task, arm] for task in tasks]
    mark = "" if all(each.is_complete for each in scores) else "subset"
    lost = list(dict.fromkeys(seed for each in scores for seed in each.lost))
    return Cell(percent(mean.value), _joined(interval(mean), mark, _lost_seeds(lost)))


def _score_cell(scores: Scores | None, column: str, has_failed: bool) -> Cell:
    """An arm's value in one column, or its headline."""
    if scores is None:
        return Cell("failed", "see above", "bad") if has_failed else Cell("-", "not run")
    if not scores.can_be_compared:
        return _partial_cell(scores, column)
    columns = [_columns(scores, seed) for seed in scores.runs]
    name = column or next(iter(columns[0]), "")
    if any(name not in each for each in columns):
        return Cell("-", "not in this run")
    lost = _lost_seeds(scores.lost)
    if len(scores.runs) == 1:
        estimate = Estimate(**columns[0][name])
        return Cell(percent(estimate.value), _joined(interval(estimate), lost))
    if column:
        values = [each[name]["value"] for each in columns]
        mean = sum(values) / len(values)
        return Cell(percent(mean), _joined(f"seeds {percent(min(values))} to {percent(max(values))}", lost))
    share = scores.share
    spread = f"seeds {percent(share.lowest)} to {percent(share.highest)}"
    return Cell(percent(share.estimate.value), _joined(interval(share.estimate), spread, lost))


def _lost_seeds(seeds: Sequence[int | None]) -> str:
    return f"without seed {', '.join(map(str, seeds))}, which failed" if seeds else ""


def _partial_cell(scores: Scores, column: str) -> Cell:
    run = next(run for run in scores.runs.values() if not run.can_be_compared)
    columns = run.metrics.get("partial_metrics") or {}
    name = column or next(iter(columns), "")
    value = columns.get(name)
    shown = "-" if value is None else percent(value["value"])
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
    has_interval = estimate.low is not None and estimate.high is not None
    p_value = f"p={compared.adjusted_p:.2g}" if has_interval else ""
    detectable = compared.difference.detectable
    note = _joined(points_interval(estimate), p_value, _smallest(detectable))
    return Cell(f"{points(estimate.value)} {compared.verdict}", note, TONES[compared.verdict])


def _smallest(detectable: float | None) -> str:
    if detectable is None:
        return ""
    return f"MDE {percent(detectable)}" if detectable <= 1 else "MDE above 100"  # no difference is as large


def _paper(comparison: Comparison, task: str, column: str) -> dict[str, dict[str, str]]:
    """The paper's figures by arm, by model and table, for the models the paper names as the runs do."""
    figures: dict[str, dict[str, float]] = {}
    for result in results_here(comparison, task):
        if result.column == column:
            model = "model not stated" if result.model == NOT_STATED else result.model
            figures.setdefault(f"{model} ({result.source})", {})[result.arm] = result.percent
    return {model: _as_printed(percents) for model, percents in figures.items()}


def _without_arm(comparison: Comparison, paper: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The paper's figures whose arm is not among those compared."""
    return [
        f"paper's {arm} {figure}"
        for percents in paper.values()
        for arm, figure in percents.items()
        if arm not in comparison.arms
    ]


def _as_printed(percents: Mapping[str, float]) -> dict[str, str]:
    """All with as many decimals as the longest, as the paper prints them."""
    decimals = max(len(f"{percent:g}".partition(".")[2]) for percent in percents.values())
    return {arm: f"{percent:.{decimals}f}" for arm, percent in percents.items()}


def _joined(*parts: str) -> str:
    return ", ".join(filter(None, parts))
