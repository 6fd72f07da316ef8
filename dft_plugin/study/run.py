"""`dft study run`: train the arms, evaluate them, report; an interrupted study goes on where it was."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from dft_eval.records.files import make_folder
from dft_plugin.errors import ConflictError, DftError
from dft_plugin.run_record import write_json
from dft_plugin.study.design import StudyConfig
from dft_plugin.study.job import Done, Job, JobFailedError
from dft_plugin.study.plan import Plan, describe_runs, make_plan
from dft_plugin.study.processes import Children, end_leftovers
from dft_plugin.study.progress import StudyProgress
from dft_plugin.study.scheduler import Here, Outcome, Place, run_jobs


def run_study(study: StudyConfig, console: Console, place: Place | None = None) -> dict[str, Any]:
    """Run everything that is not done yet.

    Args:
        study: What to do.
        console: Where progress goes.
        place: Where jobs run; None: here.

    Returns:
        Jobs done and failed, and the report's page.

    Raises:
        ConfigError: the study cannot be laid out, or was begun with other settings.
    """
    plan = make_plan(study)
    check_prerequisites(study, plan)
    make_folder(study.out)
    with _held(study.out / ".lock", f"{study.out} is being run by another process"):
        if num_leftovers := end_leftovers(study.out):
            console.print(f"ended {num_leftovers} processes that a killed call of this study had left behind")
        outcome = _run_all(plan, study, console, place or Here())
    page = study.out / "report" / "report.html"
    return {
        "done": sorted(outcome.done),
        "failed": {name: reason.partition("\n")[0] for name, reason in outcome.failures.items()},
        "report": str(page) if page.is_file() else None,
    }


def check_prerequisites(study: StudyConfig, plan: Plan) -> None:
    """Look for everything that can be missing before hours of training.

    Raises:
        ConfigError: an evaluation's configuration is wrong.
        MissingPrerequisiteError: a framework's command, a benchmark's data or a tool is not there.
    """
    from dft_eval.run.config import load_config
    from dft_eval.run.selection import check_choices, open_asked, select_tasks
    from dft_eval.tasks.catalog import TASKS

    for run in plan.runs:
        if run.train is not None:
            run.train.command()
    for path in study.evaluation:
        config = load_config(path, model=study.model, out=study.out)
        check_choices(config, TASKS)
        if config.on_missing == "stop":
            for name in select_tasks(config.tasks, TASKS):
                open_asked(name, config, TASKS)


def run_one(study: StudyConfig, name: str) -> None:
    """Run one job, those before it being done; for cluster schedulers.

    Raises:
        ConfigError: no such job.
        DftError: a job before it is not done, or it failed.
    """
    plan = make_plan(study)
    job = plan.job(name)
    make_folder(study.out / "jobs")
    with _held(study.out / "jobs" / f".{name.replace('/', '.')}.lock", f"{name} is being run by another process"):
        end_leftovers(study.out, name)
        before: dict[str, Done] = {}
        for each in plan.jobs:
            if each.name != name and each.name in _needed(plan, job):
                _take_over(each, before, is_needed=job.needs_all)
        describe_runs(plan, _recorded_failures(plan))
        if job.load(before) is not None:
            return
        children = Children()
        try:
            children.run(job, before)
        except JobFailedError as error:
            write_json(_failure_file(job), {"reason": str(error)})
            raise
        finally:
            children.end()
        _failure_file(job).unlink(missing_ok=True)
        describe_runs(plan, _recorded_failures(plan))


def describe_plan(study: StudyConfig) -> list[str]:
    """Every command of the study in an order in which they can be run by hand."""
    return [line for job in make_plan(study).jobs for line in (f"# {job.name}", job.shown_command())]


def describe_jobs(study: StudyConfig, file: Path) -> list[str]:
    """A line a job for a cluster scheduler: its stage, its name and its command, tabs between them."""
    out = ["--out", str(study.out)]
    return [
        "\t".join([str(stage), job.name, shlex.join(["dft", "study", "run", str(file), *out, "--job", job.name])])
        for stage, jobs in enumerate(make_plan(study).stages())
        for job in jobs
    ]


def _run_all(plan: Plan, study: StudyConfig, console: Console, place: Place) -> Outcome:
    """The report comes when all the others have ended, since it names those that failed."""
    *others, last = plan.jobs
    if last.kind != "report":
        others.append(last)
    with StudyProgress(plan.jobs, study.jobs, console) as progress:
        outcome = run_jobs(others, place=place, num_jobs=study.jobs, progress=progress)
        describe_runs(plan, outcome.failures)
        if last.kind == "report" and any((study.out / "eval").rglob("metrics.json")):
            made = run_jobs([replace(last, after=())], place=Here(), num_jobs=1, progress=progress)
            outcome.done |= made.done
            outcome.failures |= made.failures
    return outcome


def _needed(plan: Plan, job: Job) -> set[str]:
    """Names of the jobs before it, and before those."""
    found = set(job.after)
    for each in reversed(plan.jobs):
        if each.name in found:
            found |= set(each.after)
    return found


def _take_over(job: Job, before: dict[str, Done], *, is_needed: bool) -> None:
    done = job.load(before)
    if done is not None:
        before[job.name] = done
    elif is_needed:
        raise DftError(f"{job.name} has to be done first; `dft study run STUDY.yaml --job {job.name}` does it.")


def _failure_file(job: Job) -> Path:
    return job.record_file.with_suffix(".failed.json")


def _recorded_failures(plan: Plan) -> dict[str, str]:
    """Reasons of the jobs that failed alone and are not done since, by another call perhaps."""
    failed = [job for job in plan.jobs if _failure_file(job).is_file() and not job.record_file.is_file()]
    return {job.name: json.loads(_failure_file(job).read_text(encoding="utf-8"))["reason"] for job in failed}


@contextmanager
def _held(path: Path, found: str) -> Iterator[None]:
    """Hold a lock; one that another process of this study holds is an error at once, not a wait."""
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ConflictError(f"{found}; wait for it, or end it.") from None
    try:
        yield
    finally:
        lock.release()
