"""`dft demo`: both findings about DFT on a tiny model, through the real frameworks, in a few minutes."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from dft_eval.records.changes import compare_settings
from dft_plugin.demo.arms import make_jobs, read_result
from dft_plugin.demo.data import Recipe, SeedPlan, write_plan
from dft_plugin.errors import ConfigError, DftError
from dft_plugin.run_record import write_json
from dft_plugin.study.frameworks import find_llamafactory, find_swift
from dft_plugin.study.processes import end_leftovers
from dft_plugin.study.progress import StudyProgress
from dft_plugin.study.scheduler import Here, run_jobs

if TYPE_CHECKING:
    from dft_eval.report.document import Report
    from dft_plugin.demo.arms import ArmResult
    from dft_plugin.demo.keys import Arm
    from dft_plugin.demo.results import SeedResults

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class DemoSettings:
    """Settings of `dft demo`.

    Attributes:
        out: Output folder; a finished or interrupted demo of the same settings is resumed there.
        seeds: How many seeds, counted up from `seed`.
        seed: The first seed.
        jobs: Training processes at once, one thread each.
        swift_python: Interpreter of the ms-swift environment; None looks for `.venv-swift` beside this one.
        recipe: Sizes and learning rates.
    """

    out: Path = Path("demo_out")
    seeds: int = 1
    seed: int = 0
    jobs: int = 2
    swift_python: Path | None = None
    recipe: Recipe = field(default_factory=Recipe)


@dataclass(frozen=True)
class DemoResult:
    """Results of the demo.

    Attributes:
        results: Every number, as in `report.json` under `results`.
        report_json: The canonical report.
        report_md: The same as Markdown.
        report_html: The same as one self-contained page.
    """

    results: dict[str, Any]
    report_json: Path
    report_md: Path
    report_html: Path


def run_demo(settings: DemoSettings, console: Console) -> DemoResult:
    """Train the arms, score them, write the report.

    Args:
        settings: What to do.
        console: Where progress and the summary go; progress is shown only on a terminal.

    Raises:
        ConfigError: impossible settings, or a folder that holds something else.
        MissingPrerequisiteError: LLaMA-Factory is not installed, or `swift_python` has no `swift`.
        DftError: an arm failed.
    """
    if settings.seeds < 1 or settings.jobs < 1 or settings.seed < 0:
        raise ConfigError(f"seeds={settings.seeds}, jobs={settings.jobs}, seed={settings.seed}; at least 1, 1 and 0.")
    started = time.monotonic()
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # the demo runs on the CPU; deepspeed would announce its guess
    find_llamafactory()
    swift = find_swift(settings.swift_python)
    out = settings.out
    _claim_folder(out, settings)
    if swift is None:
        console.print("[yellow]ms-swift was not found: its arm is skipped, and the report says so.[/]")
    seeds = range(settings.seed, settings.seed + settings.seeds)
    plans = [write_plan(seed, out, settings.recipe, with_swift=swift is not None) for seed in seeds]
    _write_initial_models(plans, out)
    trained = train_arms([arm for plan in plans for arm in plan.arms], out, settings, console)
    # these load the model classes, which may announce themselves: only after the bars are gone
    from dft_plugin.demo.results import score_seed

    with console.status("scoring"):
        scored = [score_seed(plan, out, settings.recipe, trained) for plan in plans]
    return _report(settings, plans, scored, trained, out, wall_s=time.monotonic() - started, console=console)


def train_arms(arms: list[Arm], out: Path, settings: DemoSettings, console: Console) -> dict[str, ArmResult]:
    """Train the arms that are not trained yet.

    Args:
        arms: Each after the one it starts from.
        out: The demo's folder, with data and initial models.
        settings: How many at once, and where ms-swift is.
        console: Where progress is shown.

    Raises:
        DftError: an arm failed; the message has the end of its log.
    """
    end_leftovers(out)
    jobs = make_jobs(arms, out, settings.swift_python)
    ordered = sorted(jobs.values(), key=lambda job: job.depth)  # so that no process waits for one
    with StudyProgress(ordered, settings.jobs, console) as progress:
        outcome = run_jobs(ordered, place=Here(), num_jobs=settings.jobs, progress=progress)
    if outcome.failures:
        raise DftError(next(iter(outcome.failures.values())))
    return {arm.name: read_result(arm, out, outcome.done[arm.job_name]) for arm in arms}


def _report(
    settings: DemoSettings,
    plans: list[SeedPlan],
    scored: list[SeedResults],
    trained: dict[str, ArmResult],
    out: Path,
    *,
    wall_s: float,
    console: Console,
) -> DemoResult:
    from dft_eval.report.rendering import write_report
    from dft_plugin.demo.picture import write_picture
    from dft_plugin.demo.provenance import describe_provenance
    from dft_plugin.demo.report import make_report

    provenance = describe_provenance(plans, trained, settings.recipe, wall_s=wall_s)
    command = f"dft demo --out {settings.out.name} --seeds {settings.seeds} --seed {settings.seed}"
    report = make_report(plans, scored, trained, settings.recipe, provenance, command, settings.out.name)
    files = write_report(report, out)
    write_picture(report.results, out / "picture.svg")
    _print_summary(report, files.html, console)
    return DemoResult(dict(report.results), files.json, files.markdown, files.html)


def _print_summary(report: Report, html: Path, console: Console) -> None:
    """Headline, warnings and the score tables."""
    console.print(f"\n[bold]{escape(report.headline)}[/]\n")
    for banner in report.banners:
        console.print(f"[yellow]{escape(banner)}[/]\n")
    for section in report.sections[:2]:
        console.print(f"[bold]{escape(section.title)}[/]")
        for table in section.tables:
            drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
            for index, column in enumerate(table.columns):
                drawn.add_column(column, justify="left" if index == 0 else "right")
            for row in table.rows:
                texts = [f"{escape(cell.text)}\n[dim]{escape(cell.note)}[/]" for cell in row]
                drawn.add_row(*texts)
            console.print(drawn)
    console.print(f"Report: {html}", soft_wrap=True, highlight=False)


def _claim_folder(out: Path, settings: DemoSettings) -> None:
    """Take an empty folder, or one with a demo of the same settings."""
    path = out / "demo.json"
    record = {
        "schema_version": SCHEMA_VERSION,
        "kind": "dft demo",
        "seeds": settings.seeds,
        "seed": settings.seed,
        "recipe": asdict(settings.recipe),
    }
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        if differing := compare_settings({key: before.get(key) for key in record}, record):
            raise ConfigError(f"{path} differs in: {'; '.join(differing)}. Use a new --out, or delete {out}.")
    elif out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty and not the folder of a demo; use a new --out.")
    write_json(path, record)


def _write_initial_models(plans: list[SeedPlan], out: Path) -> None:
    from transformers.utils import logging

    from dft_plugin.demo.tiny_model import write_tiny_model

    logging.disable_progress_bar()
    for plan in plans:
        if not (out / plan.folder / "init" / "tokenizer.json").exists():
            write_tiny_model(out / plan.folder / "init", plan.seed)
