"""`dft report`: run folders joined into one comparison, arms as columns, benchmarks as rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dft_eval.errors import ConfigError, StoreError
from dft_eval.report.accounts import cost_table, error_table
from dft_eval.report.arms import About, find_all
from dft_eval.report.charts import by_arm, curve_figures, difference_figure, probability_figure
from dft_eval.report.comparison import Comparison
from dft_eval.report.document import Cell, Figure, Report, Section, Table
from dft_eval.report.examples import find_examples
from dft_eval.report.headline import banners_of, headline_of
from dft_eval.report.joining import SFT, compare_arms
from dft_eval.report.paper_claims import claim_section, find_claims
from dft_eval.report.results import further_results, provenance_of, results_of
from dft_eval.report.runs import check_all_comparable, find_runs
from dft_eval.report.sweep import Point, find_points, sweep_section
from dft_eval.report.tables import domain_table, summary_table

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
    comparison = compare_arms(runs, abouts, baseline)
    claims, points = find_claims(comparison), find_points(comparison, abouts)
    measured = None if probs is None else _read_probs(probs)
    trained = _training_section(comparison, abouts)
    examples = find_examples(comparison)
    return Report(
        title="Comparison of evaluation runs",
        headline=headline_of(comparison),
        banners=tuple(banners_of(comparison, runs, failed)),
        sections=(
            *([_summary_section(comparison)] if comparison.tasks else []),
            *(
                Section(domain.capitalize(), tables=(domain_table(comparison, names, failed_arms),))
                for domain, names in comparison.by_domain().items()
            ),
            *([claim_section(claims)] if claims else []),
            *([sweep_section(comparison, points)] if points else []),
            *([] if measured is None else [_probability_section(comparison, measured)]),
            *([trained] if trained.tables or trained.figures else []),
            *([Section("Answers that differ", (_EXAMPLES,), examples=examples)] if examples else []),
            Section("What went wrong", tables=(error_table(comparison),)),
        ),
        limits=_limits(comparison, points),
        commands=(_command(paths, baseline, probs),),
        provenance=provenance_of(runs, abouts),
        results=results_of(comparison, runs, abouts, measured) | further_results(comparison, claims, points),
    )


def _summary_section(comparison: Comparison) -> Section:
    return Section("Summary", tables=(summary_table(comparison),), figures=difference_figure(comparison))


def _limits(comparison: Comparison, points: Sequence[Point]) -> tuple[str, ...]:
    limits = [
        "Intervals are over problems, and where an arm has several seeds over training seeds too.",
        "The paper's figures were made with other software; they stand beside the measured ones, not among them.",
    ]
    if comparison.sft == SFT and len(comparison.arms) > 2 and not any(point.grid_of == SFT for point in points):
        limits.append(
            "Every arm has one learning rate. SFT's own best may be another: `grid` in a study tries several "
            "and shows SFT at its best."
        )
    return tuple(limits)


def _training_section(comparison: Comparison, abouts: Sequence[About]) -> Section:
    table = cost_table(abouts, comparison.arms)
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
