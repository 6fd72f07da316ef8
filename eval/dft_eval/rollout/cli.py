"""`dft rollout`: wiring only; every verb imports what it needs when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dft_eval.cli import Json, ShardOption, Workers, print_json, quieten_requests

app = typer.Typer(
    name="rollout",
    help="Sample answers to training prompts, grade them, make training data.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command(epilog="Example: dft rollout sample yaml_examples/rollout/gsm8k.yaml --out runs/rollout")
def sample(
    config: Annotated[Path, typer.Argument(help="YAML file: model, prompts, rules, interface, backend, sampling.")],
    model: Annotated[str | None, typer.Option(help="Ask this model instead of the configuration's.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder; an interrupted run resumes.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="First prompts only.")] = None,
    shard: ShardOption = None,
    as_json: Json = False,
) -> None:
    """Ask a model for several answers to each prompt."""
    from dft_eval.rollout.config import load_config
    from dft_eval.rollout.sample import sample_rollouts
    from dft_eval.run.shards import parse_shard

    quieten_requests()
    share = None if shard is None else parse_shard(shard)
    summary = sample_rollouts(load_config(config, model=model, out=out, limit=limit), shard=share)
    if as_json:
        print_json(summary)
    else:
        typer.echo(
            f"{summary['answers']} answers to {summary['prompts']} prompts in {summary['folder']}, "
            f"{summary['truncated']} of them cut at max_new_tokens"
        )


@app.command(epilog="Example: dft rollout select runs/rollout --out data/rollout")
def select(
    run: Annotated[Path, typer.Argument(help="Folder of `dft rollout sample`.")],
    out: Annotated[Path, typer.Option(help="Where the training data goes, for both frameworks.")],
    max_per_prompt: Annotated[
        int | None, typer.Option(min=1, help="Most right answers and most wrong ones of a prompt; by default all.")
    ] = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Grade the answers; write data for RFT, offline DFT, DPO, KTO and GRPO, and the pass rates."""
    from dft_eval.rollout.select import select_rollouts

    manifest = select_rollouts(run, out, max_per_prompt=max_per_prompt, num_workers=workers)
    if as_json:
        print_json(manifest)
        return
    counts = manifest["answers"]
    rows = ", ".join(f"{name} {found['rows']}" for name, found in manifest["files"].items())
    if empty := [name for name, found in manifest["files"].items() if not found["rows"]]:
        typer.echo(f"NOTHING TO TRAIN ON in {', '.join(empty)}: no answer, or no pair of answers, was right.", err=True)
    typer.echo(
        f"{manifest['pass_rate']:.1%} of {counts['answers']} answers to {manifest['prompts']} prompts are right; left "
        f"out: {counts['truncated']} truncated, {counts['repeated']} repeated, {counts['empty']} empty.\nrows: {rows}\n"
        f"in {out}"
    )
