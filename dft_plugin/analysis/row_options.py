"""Options of the verbs that run rows of data files through models, in the same words everywhere."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

Samples = Annotated[int, typer.Option(min=1, help="Rows of each data file, drawn at random.")]
MaxLength = Annotated[int, typer.Option(min=2, help="Most tokens of a row; longer ones are cut.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Rows at a time; those with images go one by one.")]
DtypeOption = Annotated[Literal["auto", "bfloat16", "float32"], typer.Option(help="auto: as the weights are stored.")]
DeviceOption = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="auto: a GPU where there is one.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the sample.")]
Chat = Annotated[bool, typer.Option("--chat", help="Rows through the tokenizer's chat template.")]
Completion = Annotated[bool, typer.Option("--completion", help="Response right after the prompt, then EOS.")]
