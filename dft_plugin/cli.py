"""The `dft` command: wiring only; every verb imports what it needs when it runs."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from dft_eval.cli import app as eval_app
from dft_eval.errors import EvalError
from dft_eval.rollout.cli import app as rollout_app
from dft_plugin.analysis.dynamics import cli as dynamics_cli
from dft_plugin.analysis.probs import cli as probs_cli
from dft_plugin.analysis.row_options import (
    BatchSize,
    Chat,
    Completion,
    DeviceOption,
    DtypeOption,
    MaxLength,
    Samples,
    Seed,
)
from dft_plugin.data.cli import app as data_app
from dft_plugin.errors import ConfigError, DftError, MissingPrerequisiteError
from dft_plugin.study.cli import app as study_app

# Base of every complaint about the command line; some versions of typer bring their own copy of click.
_UsageError: type[typer.BadParameter] = typer.BadParameter.__mro__[2]

EXIT_FAILED, EXIT_USAGE, EXIT_MISSING, EXIT_INTERRUPTED = 1, 2, 3, 130

app = typer.Typer(
    name="dft",
    help="Dynamic Fine-Tuning and its family for LLaMA-Factory and ms-swift.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

app.add_typer(eval_app, name="eval")
app.add_typer(data_app, name="data")
app.add_typer(rollout_app, name="rollout")
app.add_typer(study_app, name="study")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


@app.callback()
def _main() -> None:
    """Dynamic Fine-Tuning and its family for LLaMA-Factory and ms-swift."""


@app.command(epilog="Example: dft doctor --json")
def doctor(as_json: Json = False) -> None:
    """Print versions, probe each installed framework, check the losses on this machine.

    Exit code 1 where no framework is installed or a probe fails.
    """
    from dft_plugin.doctor import diagnose

    diagnosis = diagnose()
    if as_json:
        _print_json(diagnosis.to_dict())
    else:
        from dft_plugin.tables import print_diagnosis

        print_diagnosis(diagnosis)
    raise typer.Exit(0 if diagnosis.is_healthy else EXIT_FAILED)


@app.command(epilog="Example: dft objectives")
def objectives(as_json: Json = False) -> None:
    """List the objectives: the words for `loss_type`, their weights, options and sources."""
    from dft_plugin.core.objectives import describe_objectives

    rows = describe_objectives()
    if as_json:
        _print_json({"objectives": rows})
    else:
        from dft_plugin.tables import print_objectives

        print_objectives(rows)


@app.command(epilog="Example: dft demo --out demo_out --seeds 3")
def demo(
    out: Annotated[Path, typer.Option(help="Output folder; an interrupted demo of the same settings resumes.")] = Path(
        "demo_out"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Training processes at once, one thread each.")] = 2,
    swift_python: Annotated[
        Path | None, typer.Option(help="Interpreter of the ms-swift environment; by default .venv-swift's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a tiny model with SFT and DFT through the real frameworks; write a report of what each is good for."""
    from rich.console import Console

    from dft_plugin.demo.run import DemoSettings, run_demo

    settings = DemoSettings(out=out, seeds=seeds, seed=seed, jobs=jobs, swift_python=swift_python)
    result = run_demo(settings, Console(stderr=as_json))
    if as_json:
        _print_json({"results": result.results, "report": str(result.report_html)})


@app.command(
    epilog="Example: dft scan Qwen/Qwen2.5-0.5B data/facts.jsonl data/maths.jsonl --samples 200 --out scan_out"
)
def scan(
    model: Annotated[str, typer.Argument(help="The base model: a folder, or a name on the hub.")],
    data: Annotated[list[Path], typer.Argument(help="Training files, .json or .jsonl; each is a dataset.")],
    samples: Samples = 200,
    max_length: MaxLength = 2048,
    batch_size: BatchSize = 1,
    dtype: DtypeOption = "auto",
    device: DeviceOption = "auto",
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Output folder; an interrupted scan of the same settings resumes.")] = Path(
        "scan_out"
    ),
    chat: Chat = False,
    completion: Completion = False,
    as_json: Json = False,
) -> None:
    """Before training: how well the base model knows the data, and whether that suggests SFT, DFT or a mixture.

    Formats: messages, conversations (sharegpt), instruction/input/output, prompt/response, query/response, text;
    images in `images`. Writes scan.json, scan.jsonl and scan.png.
    """
    from dft_plugin.encoding.interface import asked_interface
    from dft_plugin.scan.run import ScanSettings, run_scan

    interface = asked_interface(chat=chat, completion=completion)
    settings = ScanSettings(model, tuple(data), out, samples, max_length, batch_size, dtype, device, seed, interface)
    result = run_scan(settings)
    if as_json:
        _print_json(result)
    else:
        from dft_plugin.scan.tables import print_scan

        print_scan(result)


app.command(epilog=probs_cli.EXAMPLE)(probs_cli.probs)
app.command(epilog=dynamics_cli.EXAMPLE)(dynamics_cli.dynamics)


@app.command(epilog="Example: dft reference Qwen/Qwen2.5-Math-1.5B train.yaml --out reference")
def reference(
    model: Annotated[str, typer.Argument(help="The frozen model: a folder, or a name on the hub.")],
    data: Annotated[
        Path, typer.Argument(help="The training configuration (.yaml): its data, template, length limit and images.")
    ],
    out: Annotated[
        Path, typer.Option(help="Output folder; an interrupted command of the same settings resumes.")
    ] = Path("reference"),
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Do share i of n, i from 0; the last one writes the data.")
    ] = None,
    dtype: DtypeOption = "auto",
    device: DeviceOption = "auto",
    as_json: Json = False,
) -> None:
    """Write the data of a training configuration again, with a frozen model's log-probabilities as column ref_logps.

    For loss_type prift, iw_sft, and asft with kl: target_k3. Run it in the environment that trains: LLaMA-Factory or
    ms-swift itself tokenizes each row. Rows whose tokens are others in the training run are refused there.
    """
    from dft_eval.run.shards import parse_shard
    from dft_plugin.reference.run import ReferenceSettings, run_reference

    share = None if shard is None else parse_shard(shard)
    with contextlib.redirect_stdout(sys.stderr):  # LLaMA-Factory logs to stdout, which is the result's
        result = run_reference(ReferenceSettings(model, data, out, share, dtype, device))
    if as_json:
        _print_json(result)
    else:
        from dft_plugin.reference.tables import print_reference

        print_reference(result)


@app.command(epilog="Example: dft report runs/eval/base runs/eval/sft runs/eval/dft --out report")
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, or folders that hold them.")],
    out: Annotated[Path, typer.Option(help="Folder for report.json, report.md and report.html.")] = Path("report"),
    baseline: Annotated[
        str | None, typer.Option(help="Arm the others are compared with; by default the first run's.")
    ] = None,
    probs: Annotated[
        Path | None, typer.Option(help="Folder of `dft probs`, whose figures the report shows too.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare evaluation runs, or a study's arms and seeds: scores, paired differences, verdicts, what went wrong."""
    from dft_eval.records.files import make_folder
    from dft_eval.report.compare import build_comparison
    from dft_eval.report.rendering import render_json, write_report

    comparison = build_comparison(runs, baseline=baseline, probs=probs)
    make_folder(out)
    files = write_report(comparison, out)
    typer.echo(render_json(comparison).rstrip() if as_json else f"{comparison.headline}\n{files.html}")


def _print_json(result: object) -> None:
    typer.echo(json.dumps(result, indent=2))


def main() -> None:
    """Entry point of the console command; turns every way to end into its exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # verbs end their children on the way out
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted", EXIT_INTERRUPTED)
    except _UsageError as error:
        error.show()
        sys.exit(EXIT_USAGE)
    except MissingPrerequisiteError as error:
        _fail(str(error), EXIT_MISSING)
    except ConfigError as error:
        _fail(str(error), EXIT_USAGE)
    except EvalError as error:
        _fail(str(error), error.exit_code)
    except DftError as error:
        _fail(str(error), EXIT_FAILED)


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(f"dft: {message}", err=True)
    sys.exit(code)
