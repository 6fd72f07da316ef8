"""`dft probs`: wiring only; it imports what it needs when it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

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

EXAMPLE = "Example: dft probs base=Qwen/Qwen2.5-0.5B sft=runs/sft dft=runs/dft --data data/train.jsonl --out probs"


def probs(
    checkpoints: Annotated[
        list[str],
        typer.Argument(
            metavar="CHECKPOINT...",
            help="Model folders, LoRA adapters or names on the hub, each also as NAME=PATH; changes are against the "
            "first.",
        ),
    ],
    data: Annotated[list[Path], typer.Option(help="Data file, .json or .jsonl, as for dft scan; may be repeated.")],
    names: Annotated[
        str, typer.Option(metavar="A,B,...", help="Names of the checkpoints in their order, instead of NAME=PATH.")
    ] = "",
    samples: Samples = 200,
    max_length: MaxLength = 2048,
    batch_size: BatchSize = 1,
    dtype: DtypeOption = "auto",
    device: DeviceOption = "auto",
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Output folder; finished checkpoints are not measured twice.")] = Path(
        "probs_out"
    ),
    chat: Chat = False,
    completion: Completion = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Compare the probabilities that checkpoints give to the same tokens (DFT paper, Figure 2).

    Writes probs.json and probs.png.
    """
    from dft_plugin.analysis.probs.checkpoints import parse_checkpoints
    from dft_plugin.analysis.probs.run import ProbsSettings, run_probs
    from dft_plugin.encoding.interface import asked_interface

    named = parse_checkpoints(checkpoints, names.split(",") if names else [])
    result = run_probs(
        ProbsSettings(
            checkpoints=tuple(named),
            data=tuple(data),
            out=out,
            samples=samples,
            max_length=max_length,
            batch_size=batch_size,
            dtype=dtype,
            device=device,
            seed=seed,
            interface=asked_interface(chat=chat, completion=completion),
        )
    )
    if as_json:
        typer.echo(json.dumps(result, indent=2))
    else:
        from dft_plugin.analysis.probs.tables import print_probs

        print_probs(result)
