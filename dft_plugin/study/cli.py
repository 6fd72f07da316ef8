"""`dft study`: wiring only; every verb imports what it needs when it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dft_plugin.errors import ConflictError

if TYPE_CHECKING:
    from dft_plugin.study.scheduler import Place

app = typer.Typer(
    name="study",
    help="Train arms, evaluate them, report: one command.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def _main() -> None:
    """Train arms, evaluate them, report: one command."""


@app.command(epilog="Example: dft study run yaml_examples/study/smollm2_gsm8k.yaml")
def run(
    study: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="Model, arms, seeds, evaluation.")],
    out: Annotated[Path | None, typer.Option(help="The study's folder; an interrupted study resumes there.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes at once.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print every command; run none.")] = False,
    print_jobs: Annotated[
        bool, typer.Option("--print-jobs", help="Print stage, job and command, for a cluster scheduler; run none.")
    ] = False,
    job: Annotated[
        str | None, typer.Option(help="Run this job alone, of --print-jobs; those before it are done.")
    ] = None,
    executor: Annotated[
        Literal["local", "ray"], typer.Option(help="ray: spread the jobs over a Ray cluster.")
    ] = "local",
    ray_address: Annotated[
        str | None, typer.Option(help="Of a running Ray cluster; by default RAY_ADDRESS, else Ray on this machine.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Train every arm with every seed, evaluate all of them, compare; what is done is not done again.

    The frameworks are run by their own command lines. A failed arm does not stop the others: it is named in the
    report, and the exit code is 1.
    """
    from rich.console import Console

    from dft_plugin.study.design import load_study
    from dft_plugin.study.run import describe_jobs, describe_plan, run_one, run_study

    config = load_study(study, out=out, jobs=jobs)
    if sum([dry_run, print_jobs, job is not None]) > 1:
        raise ConflictError("--dry-run, --print-jobs and --job; one of them is accepted.")
    if ray_address is not None and executor != "ray":
        raise ConflictError("--ray-address goes with --executor ray.")
    if dry_run or print_jobs:
        lines = describe_plan(config) if dry_run else describe_jobs(config, study)
        typer.echo("\n".join(lines))
        return
    if job is not None:
        run_one(config, job)
        return
    result = run_study(config, Console(stderr=as_json), _make_place(executor, ray_address))
    if as_json:
        typer.echo(json.dumps(result, indent=2))
    elif result["report"]:
        typer.echo(result["report"])
    if result["failed"]:
        raise typer.Exit(1)


def _make_place(executor: str, ray_address: str | None) -> Place:
    from dft_plugin.study.scheduler import Here

    if executor == "local":
        return Here()
    from dft_plugin.study.ray_cluster import RayPlace

    return RayPlace(ray_address)
