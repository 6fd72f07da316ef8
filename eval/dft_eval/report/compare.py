"""`dft report`: run folders joined into one comparison, arms as columns, benchmarks as rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dft_eval.errors import ConfigError, StoreError
from dft_eval.report.arms import About, find_all
from dft_eval.report.charts import by_arm, curve_figures, difference_figure, probability_figure
from dft_eval.report.comparison import Comparison, compare_arms
from dft_eval.report.document import Cell, Figure, Report, Section, Table
from dft_eval.report.examples import find_examples
from dft_eval.report.paper_results import paper_results
from dft_eval.report.runs import ComparedRun, check_all_comparable, find_runs
from dft_eval.report.tables import DECIDED, cost_table, domain_tables, error_table

_PROBS = "probs.json"
_EXAMPLES = (
    "The first answers, in the benchmark's order, that one of an arm and the baseline got right and the other wrong; "
    "they were not chosen, and say nothing about how often it happens."
)


def build_comparison(paths: Sequence[Path], *, baseline: str | None = None, probs: Path | None = None) -> Report:
    """Read the runs and lay out the report.

    Args:
        paths: Run folders, or folders that hold them; `arm.json` beside runs says of which arm and seed they are.
        baseline: The arm the others are compared with; None takes the first run's.
        probs: Folder or file of `dft probs`.

    Raises:
        ConfigError: no runs, an arm and seed twice on a benchmark, runs that cannot be compared, no such baseline.
        StoreError: a file that cannot be read.
    """
    abouts = find_all(paths)
    runs = find_runs(paths)
    check_all_comparable(runs)
    failed = {about.name: about.failed for about in abouts if about.failed is not None}
    failed_arms = [about.arm for about in abouts if about.failed is not None]
    comparison = compare_arms(runs, failed_arms, baseline)
    measured = None if probs is None else _read_probs(probs)
    trained = _training_section(comparison, abouts)
    examples = find_examples(comparison)
    return Report(
        title="Comparison of evaluation runs",
        headline=_headline(comparison),
        banners=tuple(_banners(comparison, runs, failed)),
        sections=(
            *([Section("Differences", figures=figure)] if (figure := difference_figure(comparison)) else []),
            *(
                Section(domain.capitalize(), tables=domain_tables(comparison, names, failed_arms))
                for domain, names in comparison.by_domain().items()
            ),
            *([] if measured is None else [_probability_section(comparison, measured)]),
            *([trained] if trained.tables or trained.figures else []),
            *([Section("Answers that differ", (_EXAMPLES,), examples=examples)] if examples else []),
            Section("What went wrong", tables=(error_table(comparison),)),
        ),
        limits=(
            "Intervals are over problems, and where an arm has several seeds over training seeds too.",
            "The paper's figures were made with other software; they stand beside the measured ones, not among them.",
        ),
        commands=(_command(paths, baseline, probs),),
        provenance=_provenance(runs, abouts),
        results=_results(comparison, runs, abouts, measured),
    )


def _headline(comparison: Comparison) -> str:
    if len(comparison.arms) == 1:
        return f"{comparison.arms[0]} alone: nothing to compare with"
    return " ".join(_verdicts(comparison, reference) for reference in comparison.references)


def _verdicts(comparison: Comparison, reference: str) -> str:
    """The decided comparisons by name, the number of the others."""
    found = {
        (task, arm): compared.verdict
        for (task, arm, against), compared in comparison.differences.items()
        if against == reference
    }
    decided = [
        f"{arm} is {verdict} on {task}{' (one seed)' if comparison.grid[task, arm].has_one_seed else ''}"
        for (task, arm), verdict in found.items()
        if verdict in DECIDED
    ]
    num_open = len(found) - len(decided)
    rest = f"{num_open} of {len(found)} comparison{'s' * (len(found) > 1)} undecided" if num_open else ""
    return f"Against {reference}: {'; '.join(filter(None, [*decided, rest])) or 'nothing compared'}."


def _banners(comparison: Comparison, runs: Sequence[ComparedRun], failed: Mapping[str, str]) -> list[str]:
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


def _training_section(comparison: Comparison, abouts: Sequence[About]) -> Section:
    table = cost_table(abouts, comparison)
    alarms = [f"{about.name}: {alarm}" for about in abouts for alarm in about.alarms]
    said = (f"Alarms of the monitor. {' '.join(alarms)}",) if alarms else ()
    tables = () if table is None else (table,)
    return Section("Training", said, tables, curve_figures(comparison, abouts))


def _probability_section(comparison: Comparison, probs: Mapping[str, Any]) -> Section:
    rows = []
    for arm, checkpoints in by_arm(probs).items():
        values = [
            [100 * checkpoint[key] for checkpoint in checkpoints]
            for key in ("mean_p", "share_below_0.05", "share_above_0.95")
        ]
        nlls = [checkpoint["mean_nll"] for checkpoint in checkpoints]
        cells = [Cell(*_mean_and_range(nlls, 3)), *(Cell(*_mean_and_range(each, 1)) for each in values)]
        rows.append((Cell(arm), *cells))
    note = "Means over the seeds, with the lowest and highest. Every model reads the same tokens."
    table = Table(("Arm", "mean NLL", "mean p (%)", "p < .05 (%)", "p > .95 (%)"), tuple(rows), note)
    figures: tuple[Figure, ...] = probability_figure(comparison, probs)
    return Section("Token probabilities", tables=(table,), figures=figures)


def _mean_and_range(values: Sequence[float], decimals: int) -> tuple[str, str]:
    mean = f"{sum(values) / len(values):.{decimals}f}"
    return mean, "" if len(values) == 1 else f"{min(values):.{decimals}f} to {max(values):.{decimals}f}"


def _read_probs(path: Path) -> dict[str, Any]:
    file = path / _PROBS if path.is_dir() else path
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if content["schema_version"] != 1 or content["kind"] != "dft probs" or not content["checkpoints"]:
            raise ValueError("another schema")
    except OSError as error:
        raise ConfigError(f"--probs {path}: {file} cannot be read: {error.strerror}; `dft probs` writes it.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{file} is not of `dft probs` ({error}).") from error
    return content


def _command(paths: Sequence[Path], baseline: str | None, probs: Path | None) -> str:
    options = [] if baseline is None else ["--baseline", baseline]
    options += [] if probs is None else ["--probs", str(probs)]
    return " ".join(["dft report", *map(str, paths), *options])


def _provenance(runs: Sequence[ComparedRun], abouts: Sequence[About]) -> dict[str, str]:
    found: dict[str, str] = {}
    for about in abouts:
        if command := about.content.get("command"):
            found[f"{about.name}, training"] = f"{command}; {about.content.get('framework') or ''}".rstrip("; ")
    for run in runs:
        about_run = [f"model {run.settings.get('model', 'answers made elsewhere')}"]
        about_run += [f"prompts {str(run.settings.get('prompt_sha256'))[:12]}"]
        about_run += [f"data {digest[:12]}" for digest in dict(run.settings.get("data_sha256", {})).values()]
        about_run += [f"{name} {value}" for name, value in dict(run.settings.get("fingerprint", {})).items()]
        for environment in run.environments:
            git = environment.get("git") or {}
            changed = " (changed)" if git.get("is_dirty") else ""
            about_run.append(f"commit {str(git.get('commit', 'none'))[:12]}{changed}")
        found[f"{run.name}, {run.task}"] = "; ".join(about_run)
    return found


def _results(
    comparison: Comparison, runs: Sequence[ComparedRun], abouts: Sequence[About], probs: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Everything unrounded."""
    return {
        "first_model": comparison.baseline,
        "arms": list(comparison.arms),
        "models": [dict(about.content) for about in abouts],
        "runs": [
            {"path": str(run.path), "model": run.model, "arm": run.model, "seed": run.seed, "task": run.task}
            | {"settings": run.settings, "metrics": run.metrics}
            for run in runs
        ],
        "scores": [
            {"task": task, "arm": arm, **asdict(scores.share.estimate), "lowest": scores.share.lowest}
            | {"highest": scores.share.highest, "num_seeds": len(scores.runs), "is_complete": scores.is_complete}
            for (task, arm), scores in comparison.grid.items()
            if scores.can_be_compared and scores.any_run.headline is not None
        ],
        "differences": [
            {"task": task, "model": arm, "arm": arm, "against": reference, **asdict(compared.difference)}
            | {"holm_p_value": compared.adjusted_p, "verdict": compared.verdict}
            for (task, arm, reference), compared in comparison.differences.items()
        ],
        "token_probabilities": None if probs is None else [_without_long_lists(each) for each in probs["checkpoints"]],
        "paper": [
            result._asdict() for task in dict.fromkeys(run.task for run in runs) for result in paper_results(task)
        ],
    }


def _without_long_lists(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in checkpoint.items() if key not in ("histogram", "lowest_bin")}
