"""`dft eval`: wiring only; every verb imports what it needs when it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from dft_eval.tasks.base import Executor

app = typer.Typer(
    name="eval",
    help="Evaluate models on benchmarks; score answers made elsewhere.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
ShardOption = Annotated[
    str | None, typer.Option("--shard", metavar="I/N", help="Do share i of n, i from 0; then merge without --shard.")
]
Workers = Annotated[int | None, typer.Option(min=1, help="Scoring processes; by default one a core.")]
ExecutorOption = Annotated[str, typer.Option("--executor", help="local, or ray: spread scoring over a Ray cluster.")]
RayAddress = Annotated[
    str | None, typer.Option(help="Of a running Ray cluster; by default RAY_ADDRESS, else Ray on this machine.")
]


@app.command("list", epilog="Example: dft eval list --json")
def list_tasks(as_json: Json = False) -> None:
    """List the benchmarks, their protocols, and what is missing here to run them."""
    from dft_eval.run.listing import format_catalog, list_catalog
    from dft_eval.tasks.catalog import TASKS

    rows = list_catalog(TASKS)
    if as_json:
        print_json({"tasks": rows})
    else:
        typer.echo(format_catalog(rows))


@app.command(epilog="Example: dft eval run yaml_examples/eval/code.yaml --model runs/code_dft --out runs/eval/code_dft")
def run(
    config: Annotated[Path, typer.Argument(help="YAML file: model, backend, sampling, tasks.")],
    model: Annotated[str | None, typer.Option(help="Evaluate this model instead of the configuration's.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only this task; may be repeated.")] = None,
    out: Annotated[Path | None, typer.Option(help="One run folder a task is made below it.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="First samples only; marked as partial.")] = None,
    shard: ShardOption = None,
    workers: Workers = None,
    executor: ExecutorOption = "local",
    ray_address: RayAddress = None,
    as_json: Json = False,
) -> None:
    """Generate and score; an interrupted run of the same settings resumes."""
    from dft_eval.run.config import load_config
    from dft_eval.run.evaluate import run_evaluation
    from dft_eval.run.selection import find_missing
    from dft_eval.run.shards import parse_shard
    from dft_eval.tasks.catalog import TASKS

    quieten_requests()
    settings = load_config(config, model=model, tasks=task, out=out, limit=limit)
    share = None if shard is None else parse_shard(shard)
    skips = settings.on_missing == "skip"
    skipped = find_missing(settings, TASKS) if skips else {}
    results = run_evaluation(settings, TASKS, _make_executor(executor, workers, ray_address), shard=share)
    _finish({"runs": results, "skipped": skipped}, list(results.values()), as_json=as_json)


@app.command(epilog="Example: dft eval score --task humaneval --samples samples.jsonl --out runs/eval/mine")
def score(
    task: Annotated[str, typer.Option(help="Name of the benchmark, or a pattern: 'multipl_e/*'.")],
    samples: Annotated[
        Path, typer.Option(help="JSONL file: sample_id, and completion, program or answer; {task} stands for the name.")
    ],
    out: Annotated[Path, typer.Option(help="The run folder; an interrupted run of the same settings resumes.")],
    protocol: Annotated[
        str | None, typer.Option(help="How answers are read; by default the benchmark's first.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file of `dft eval run` whose `vision:` part names the judge.")
    ] = None,
    shard: ShardOption = None,
    workers: Workers = None,
    executor: ExecutorOption = "local",
    ray_address: RayAddress = None,
    as_json: Json = False,
) -> None:
    """Score answers made elsewhere."""
    from dft_eval.run.config import load_config
    from dft_eval.run.score_run import ScoreRequest, score_files
    from dft_eval.run.shards import parse_shard
    from dft_eval.tasks.catalog import TASKS
    from dft_eval.vision.settings import VisionSettings

    share = None if shard is None else parse_shard(shard)
    vision = VisionSettings() if config is None else load_config(config).vision
    request = ScoreRequest(task, samples, out, protocol, share, vision)
    runs = score_files(request, TASKS, _make_executor(executor, workers, ray_address))
    is_one = task in TASKS
    _finish(dict(runs[str(out)]) if is_one else {"runs": runs}, list(runs.values()), as_json=as_json)


@app.command(epilog="Example: dft eval grade answers.jsonl --rules math --out graded.jsonl")
def grade(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.jsonl", help="Records: gold (text or list of texts), response.")
    ],
    rules: Annotated[
        Literal["math", "short_answer", "choice"], typer.Option(help="Equal expressions, ORQA's exact match, a letter.")
    ],
    out: Annotated[Path | None, typer.Option(help="The records with passed, status and read, as JSONL.")] = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Grade answers of your own against references of your own."""
    from dft_eval.run.grade import grade_file
    from dft_eval.run.listing import format_grades

    summary = grade_file(file, rules, out, workers)
    if as_json:
        print_json(summary)
    else:
        typer.echo(format_grades(summary))
    if summary["unjudged"]:
        raise typer.Exit(1)


@app.command(epilog="Example: dft eval fetch humaneval_plus")
def fetch(
    tasks: Annotated[list[str], typer.Argument(metavar="TASK...", help="Benchmarks; multipl_e/* means all of them.")],
    as_json: Json = False,
) -> None:
    """Download benchmark data with pinned sha256 into the user's cache."""
    from dft_eval.run.fetch import fetch_data
    from dft_eval.run.selection import select_tasks
    from dft_eval.tasks.catalog import TASKS

    fetched = {name: fetch_data(name, TASKS[name].data_files) for name in select_tasks(tasks, TASKS)}
    if as_json:
        print_json({"tasks": {n: f._asdict() | {"folder": str(f.folder)} for n, f in fetched.items()}})
    else:
        for name, files in fetched.items():
            typer.echo(f"{name}: {len(files.downloaded)} fetched, {len(files.present)} already in {files.folder}")


def quieten_requests() -> None:
    """Keep the HTTP client from logging a line for each of thousands of requests."""
    import logging

    for name in ("httpx", "httpx2"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _make_executor(name: str, num_workers: int | None, ray_address: str | None) -> Executor:
    from dft_eval.errors import ConfigError

    if name == "ray":
        from dft_eval.run.ray_cluster import RayCluster

        return RayCluster(ray_address)
    if name != "local" or ray_address is not None:
        raise ConfigError(f"--executor {name}; local and ray are accepted, and --ray-address only with ray.")
    from dft_eval.run.local_pool import LocalPool

    return LocalPool() if num_workers is None else LocalPool(num_workers)


def _finish(result: dict[str, Any], runs: list[Any], *, as_json: bool) -> None:
    """Print the result; exit code 1 where something could not be judged because of us."""
    if as_json:
        print_json(result)
    else:
        from dft_eval.run.listing import print_metrics

        print_metrics(runs)
    if any(run["n_errors"] for run in runs):
        raise typer.Exit(1)


def print_json(result: object) -> None:
    """Print one JSON object on stdout."""
    typer.echo(json.dumps(result, indent=2))
