"""`dft report`: run folders joined into one comparison, models as columns, benchmarks as rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dft_eval.metrics import CONFIDENCE, Difference, holm
from dft_eval.report.document import Cell, Report, Section, Table, Tone
from dft_eval.report.paper_results import paper_results
from dft_eval.report.runs import ComparedRun, check_all_comparable, compare, find_runs

_TONES: Mapping[str, Tone] = {"better": "good", "worse": "bad", "no decision": "open"}
_STATUSES = ("truncated", "no_answer", "timeout", "unjudged", "infra_error")


@dataclass(frozen=True)
class _Compared:
    """A model's difference to the first on one benchmark.

    `verdict` holds after Holm's correction over the model's benchmarks.
    """

    difference: Difference
    adjusted_p: float

    @property
    def verdict(self) -> str:
        return self.difference.verdict if self.adjusted_p < 1 - CONFIDENCE else "no decision"


Grid = Mapping[tuple[str, str], ComparedRun]
Differences = Mapping[tuple[str, str], _Compared]


def build_comparison(paths: Sequence[Path]) -> Report:
    """Read the runs and lay out the report; the first run's model is the one the others are compared with.

    Raises:
        ConfigError: no runs, one model twice on a benchmark, or runs that cannot be compared.
        StoreError: a run that cannot be read.
    """
    runs = find_runs(paths)
    check_all_comparable(runs)
    grid = {(run.task, run.model): run for run in runs}
    models = list(dict.fromkeys(run.model for run in runs))
    tasks = sorted(dict.fromkeys(run.task for run in runs), key=lambda task: _domain(grid, task))
    differences = _compare_all(grid, tasks, models)
    partial = [run for run in runs if not run.is_complete]
    return Report(
        title="Comparison of evaluation runs",
        headline=_headline(models, differences),
        banners=tuple(
            f"PARTIAL: {run.model} on {run.task}: {'; '.join(run.metrics['incomplete_because'])}." for run in partial
        ),
        sections=(
            *(
                Section(domain.capitalize(), tables=_domain_tables(grid, names, models, differences))
                for domain, names in _by_domain(grid, tasks).items()
            ),
            Section("What went wrong", tables=(_error_table(runs),)),
        ),
        limits=(
            "Intervals are over problems. One run a model says nothing about other training seeds.",
            "The paper's figures were made with other software; they stand beside the measured ones, not among them.",
        ),
        commands=("dft report " + " ".join(map(str, paths)),),
        provenance=_provenance(runs),
        results=_results(runs, differences, models[0]),
    )


def _compare_all(grid: Grid, tasks: Sequence[str], models: Sequence[str]) -> Differences:
    compared: dict[tuple[str, str], _Compared] = {}
    for model in models[1:]:
        found: dict[str, Difference] = {}
        for task in tasks:
            first, second = grid.get((task, models[0])), grid.get((task, model))
            if first is not None and second is not None and (difference := compare(first, second)) is not None:
                found[task] = difference
        adjusted = holm([difference.p_value for difference in found.values()])
        for (task, difference), p_value in zip(found.items(), adjusted, strict=True):
            compared[task, model] = _Compared(difference, p_value)
    return compared


def _domain(grid: Grid, task: str) -> str:
    return next(str(run.metrics["domain"]) for (name, _), run in grid.items() if name == task)


def _by_domain(grid: Grid, tasks: Sequence[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for task in tasks:
        groups.setdefault(_domain(grid, task), []).append(task)
    return groups


def _headline(models: Sequence[str], differences: Differences) -> str:
    if len(models) == 1:
        return f"{models[0]} alone: nothing to compare with"
    parts = []
    for model in models[1:]:
        verdicts = [each.verdict for (_, name), each in differences.items() if name == model]
        counts = ", ".join(f"{name} on {verdicts.count(name)}" for name in _TONES)
        parts.append(f"{model} against {models[0]}, {len(verdicts)} benchmarks: {counts}")
    return "; ".join(parts)


def _domain_tables(
    grid: Grid, tasks: Sequence[str], models: Sequence[str], differences: Differences
) -> tuple[Table, ...]:
    places = [(task, column) for task in tasks for column in ("", *_reported(grid, task))]
    named = dict.fromkeys(model for task, column in places for model in _paper(grid, task, column))
    scores = Table(
        ("Benchmark", *models, "Paper"),
        tuple(
            (
                Cell(column, is_part=True) if column else _task_cell(grid, task),
                *(_score_cell(grid.get((task, model)), column) for model in models),
                Cell("; ".join(_paper(grid, task, column).values()) or "-"),
            )
            for task, column in places
        ),
        f"Percent, with 95% intervals over problems. Paper: base / SFT / DFT of {'; '.join(named) or 'none of these'}.",
    )
    if len(models) == 1:
        return (scores,)
    rows = tuple(
        (Cell(task), *(_difference_cell(differences.get((task, model))) for model in models[1:])) for task in tasks
    )
    note = "Points, paired by problem, 95% intervals; verdicts after Holm's correction over a model's benchmarks."
    return scores, Table(("Difference", *(f"{model} - {models[0]}" for model in models[1:])), rows, note)


def _task_cell(grid: Grid, task: str) -> Cell:
    run = next(run for (name, _), run in grid.items() if name == task)
    repeats = run.metrics["num_repeats"]
    answers = f"{repeats} answer{'' if repeats == 1 else 's'} each"
    return Cell(task, f"{run.metrics['protocol']}, n={run.metrics['n']}, {answers}")


def _reported(grid: Grid, task: str) -> list[str]:
    """The columns below the headline that any run of the benchmark reports; those of older versions report none."""
    columns = (run.metrics.get("reported", ()) for (name, _), run in grid.items() if name == task)
    return list(dict.fromkeys(column for names in columns for column in names))


def _score_cell(run: ComparedRun | None, column: str) -> Cell:
    """A model's value in one column; the headline, where `column` is empty, is shown with its name."""
    if run is None:
        return Cell("-", "not run")
    columns = run.metrics["metrics"] if run.is_complete else run.metrics["partial_metrics"]
    name = column or next(iter(columns), "")
    value = columns.get(name)
    if not run.is_complete:
        shown = "-" if value is None else f"{100 * value['value']:.1f}"
        if column:
            return Cell(f"PARTIAL {shown}", "" if value is None else f"of {value['num_items']} problems", "bad")
        return Cell(f"PARTIAL {shown} {name}".rstrip(), f"of {run.num_judged} answers", "bad")
    if value is None:
        return Cell("-", "not in this run")
    interval = "" if value["low"] is None else f"{100 * value['low']:.1f} to {100 * value['high']:.1f}"
    return Cell(f"{100 * value['value']:.1f}", ", ".join(filter(None, (interval, "" if column else name))))


def _difference_cell(compared: _Compared | None) -> Cell:
    if compared is None:
        return Cell("-", "not compared: not run, or partial")
    estimate = compared.difference.estimate
    interval = "no interval"
    if estimate.low is not None and estimate.high is not None:
        interval = f"{100 * estimate.low:+.1f} to {100 * estimate.high:+.1f}, p={compared.adjusted_p:.3g}"
    return Cell(f"{100 * estimate.value:+.1f} {compared.verdict}", interval, _TONES[compared.verdict])


def _paper(grid: Grid, task: str, column: str) -> dict[str, str]:
    """The paper's figures by model and table, for the models the paper names as the runs do; none by likeness."""
    results = [result for result in paper_results(task) if result.column == column]
    named = [f"{run.model} {run.settings.get('model', '')}" for (name, _), run in grid.items() if name == task]
    figures: dict[str, list[float]] = {}
    for result in results:
        if result.model == "not stated" or any(_is_named(result.model, text) for text in named):
            figures.setdefault(f"{result.model} ({result.source})", []).append(result.percent)
    return {model: _join_percents(percents) for model, percents in figures.items()}


def _join_percents(percents: Sequence[float]) -> str:
    """All with as many decimals as the longest, as the paper prints them."""
    decimals = max(len(f"{percent:g}".partition(".")[2]) for percent in percents)
    return " / ".join(f"{percent:.{decimals}f}" for percent in percents)


def _is_named(model: str, text: str) -> bool:
    return re.search(rf"(?<![\w.-]){re.escape(model)}(?![\w.]|-)", text.replace("_", " "), re.IGNORECASE) is not None


def _error_table(runs: Sequence[ComparedRun]) -> Table:
    rows = []
    for run in runs:
        counts = dict(run.metrics["statuses"]) | {"truncated": run.metrics["n_truncated"]}
        cells = (Cell(str(counts.get(status, 0))) for status in _STATUSES)
        missing = run.metrics["n_missing"]
        rows.append((Cell(run.task, run.model), Cell(str(run.num_judged)), *cells, Cell(str(missing))))
    heads = ("truncated", "no answer", "timeout", "unjudged", "infrastructure", "missing")
    note = "Answers. Truncated ones may still be right; unjudged, infrastructure and missing ones make a run partial."
    return Table(("Benchmark", "judged", *heads), tuple(rows), note)


def _provenance(runs: Sequence[ComparedRun]) -> dict[str, str]:
    found: dict[str, str] = {}
    for run in runs:
        about = [f"model {run.settings.get('model', 'answers made elsewhere')}"]
        about += [f"prompts {str(run.settings.get('prompt_sha256'))[:12]}"]
        about += [f"data {digest[:12]}" for digest in dict(run.settings.get("data_sha256", {})).values()]
        about += [f"{name} {value}" for name, value in dict(run.settings.get("fingerprint", {})).items()]
        for environment in run.environments:
            git = environment.get("git") or {}
            about.append(f"commit {str(git.get('commit', 'none'))[:12]}{' (changed)' if git.get('is_dirty') else ''}")
        found[f"{run.model}, {run.task}"] = "; ".join(about)
    return found


def _results(runs: Sequence[ComparedRun], differences: Differences, first: str) -> dict[str, Any]:
    """Everything unrounded."""
    return {
        "first_model": first,
        "runs": [
            {"path": str(run.path), "model": run.model, "task": run.task, "settings": run.settings}
            | {"metrics": run.metrics}
            for run in runs
        ],
        "differences": [
            {"task": task, "model": model, **asdict(each.difference)}
            | {"holm_p_value": each.adjusted_p, "verdict": each.verdict}
            for (task, model), each in differences.items()
        ],
        "paper": [
            result._asdict() for task in dict.fromkeys(run.task for run in runs) for result in paper_results(task)
        ],
    }
