"""`dft dynamics`: wiring only; it imports what it needs when it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from dft_plugin.analysis.row_options import Samples

EXAMPLE = (
    "Example: dft dynamics runs/sft runs/dft --config yaml_examples/eval/math.yaml --task gsm8k --limit 200 "
    "--data data/held_out.jsonl --out dynamics"
)


def dynamics(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN_DIR...", help="Output folders of LLaMA-Factory or ms-swift with checkpoint-N; or NAME=PATH."
        ),
    ],
    config: Annotated[Path, typer.Option(help="YAML file of `dft eval run`; its model and out are not used.")],
    every: Annotated[int, typer.Option(min=1, help="Only steps that are multiples of it, and the last one.")] = 1,
    task: Annotated[list[str] | None, typer.Option(help="Only this benchmark; may be repeated.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="First samples only: the same ones at each step.")] = None,
    base: Annotated[str | None, typer.Option(help="Model the runs began with; by default read from each run.")] = None,
    data: Annotated[
        list[Path] | None, typer.Option(help="Held-out rows for nll and 1 - mean p, as for dft probs; may be repeated.")
    ] = None,
    samples: Samples = 200,
    dtype: Annotated[
        Literal["auto", "bfloat16", "float32"], typer.Option(help="For --data; auto: as the weights are stored.")
    ] = "auto",
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="For --data; auto: a GPU if any.")] = "auto",
    chat: Annotated[bool, typer.Option("--chat", help="Rows of --data through the chat template.")] = False,
    completion: Annotated[bool, typer.Option("--completion", help="Rows of --data without it.")] = False,
    out: Annotated[Path, typer.Option(help="Output folder; what is recorded there is not evaluated again.")] = Path(
        "dynamics_out"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Evaluate every checkpoint of training runs, and their base, by training step (DFT paper, Figure 1).

    Writes dynamics.json, dynamics.csv and dynamics.png. Exit code 1 where a point has no score.
    """
    from dft_eval.run.local_pool import LocalPool
    from dft_eval.tasks.catalog import TASKS
    from dft_plugin.analysis.dynamics.run import DynamicsSettings, run_dynamics
    from dft_plugin.analysis.probs.checkpoints import parse_checkpoints
    from dft_plugin.encoding.interface import asked_interface

    settings = DynamicsSettings(
        runs=tuple(parse_checkpoints(runs, [])),
        config=config,
        out=out,
        every=every,
        tasks=tuple(task or ()),
        limit=limit,
        base=base,
        data=tuple(data or ()),
        samples=samples,
        dtype=dtype,
        device=device,
        interface=asked_interface(chat=chat, completion=completion),
    )
    result = run_dynamics(settings, TASKS, LocalPool())
    if as_json:
        typer.echo(json.dumps(result, indent=2))
    else:
        from dft_plugin.analysis.dynamics.tables import print_dynamics

        print_dynamics(result)
    points = [point for run in result["runs"] for point in run["points"]]
    if any(one["value"] is None for point in points for one in point["tasks"].values()):
        raise typer.Exit(1)
