"""`dft data`: wiring only; every verb imports what it needs when it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(
    name="data",
    help="Build training data of both frameworks from public datasets.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


@app.command("list", epilog="Example: dft data list --json")
def list_recipes(as_json: Json = False) -> None:
    """List the recipes, their variants and where their rows are published."""
    from dft_plugin.data.listing import describe_recipes, format_recipes

    rows = describe_recipes()
    typer.echo(json.dumps({"recipes": rows}, indent=2) if as_json else format_recipes(rows))


@app.command(epilog="Example: dft data build gsm8k --format llamafactory --out data/gsm8k")
def build(
    recipe: Annotated[
        str, typer.Argument(help="A name of `dft data list`, RECIPE/VARIANT, or a recipe of yours: a file in YAML.")
    ],
    format_: Annotated[
        Literal["llamafactory", "ms_swift"],
        typer.Option("--format", help="llamafactory adds dataset_info.json; the data file itself is the same."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of its own; an interrupted build of the same settings resumes.")],
    from_: Annotated[
        list[Path] | None,
        typer.Option(
            "--from", metavar="PATH", help="Local .parquet, .jsonl or .jsonl.gz, or a folder; may be repeated."
        ),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Commit to read instead of the recipe's, 40 digits.")] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Take this many rows instead of the recipe's number.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of a random selection, instead of the recipe's.")] = None,
    image_dir: Annotated[Path | None, typer.Option(help="Folder that the images' paths start from.")] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Name or folder; lengths in its tokens in the manifest.")
    ] = None,
    decontaminate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK", help="Leave out rows with a question of this task; may be repeated; 'multipl_e/*'."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Build a dataset: a JSONL file of messages, the list of rows that were noted, and manifest.json."""
    from dft_plugin.data.build import BuildSettings
    from dft_plugin.data.build import build as build_dataset
    from dft_plugin.data.listing import format_manifest
    from dft_plugin.data.recipe import load_recipe
    from dft_plugin.data.selection import with_selection

    settings = BuildSettings(
        recipe=with_selection(load_recipe(recipe), rows, seed),
        format=format_,
        out=out,
        local=tuple(from_ or ()),
        revision=revision,
        image_dir=image_dir,
        tokenizer=tokenizer,
        decontaminate=tuple(decontaminate or ()),
    )
    manifest = build_dataset(settings)
    typer.echo(json.dumps(manifest, indent=2) if as_json else format_manifest(manifest, out, image_dir))
