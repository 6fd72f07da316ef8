"""The comments a file opens with: launch lines, GPUs, memory, the paper's figures, data, evaluation."""

from __future__ import annotations

import re
import textwrap

from tests.examples import keys
from tests.examples.memory import peak_gib
from tests.examples.table import NUM_GPUS, Run, shown

_WIDTH = 118


def header(run: Run) -> str:
    """Comment lines, without the last newline."""
    tuner = "LoRA" if run.row.tuner == "lora" else "full"
    place = run.row.source if run.row.source.startswith("not") else f"arXiv 2508.05629, {run.row.source}"
    title = f"{run.arm.title}, {run.experiment.title}: {run.model.name}, {tuner} training ({place})"
    commands = [_command(line) for line in [*keys.builds(run), keys.launch(run)]]
    lines = [*_wrap(title), "#", *commands, "#", *_wrap(_size(run)), *_wrap(_machines(run))]
    lines += [*_wrap(_score(run)), *_wrap(_data(run))]
    for note in [*run.experiment.notes, *run.model.notes, *run.arm.notes]:
        lines += _wrap(note)
    return "\n".join([*lines, *_evaluation(run), *_variants(run)])


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent="# ", subsequent_indent="#   ", break_long_words=False, break_on_hyphens=False
    )


def _command(text: str) -> str:
    """A command line, broken before its options where it is long."""
    glued = re.sub(r"(--\S+) (?!-)", "\\1\0", text)  # an option stays with its value
    parts = textwrap.wrap(glued, _WIDTH - 8, break_long_words=False, break_on_hyphens=False)
    parts = [part.replace("\0", " ") for part in parts]
    return " \\\n".join(f"#   {'  ' if index else ''}{part}" for index, part in enumerate(parts))


def _size(run: Run) -> str:
    rows, accumulation = run.settings.spread()
    gib = peak_gib(run)
    memory = f"about {gib} GiB of each (computed, see README.md)" if gib else "memory depends on what is generated"
    return (
        f"{NUM_GPUS} GPUs x {rows} rows x {accumulation} accumulated = batch {run.settings.batch}; {memory}. "
        f"On fewer GPUs raise gradient_accumulation_steps by the same factor."
    )


def _machines(run: Run) -> str:
    rows, accumulation = run.settings.spread()
    key, number = (
        ("gradient_accumulation_steps", accumulation) if accumulation > 1 else ("per_device_train_batch_size", rows)
    )
    return (
        "Two machines: the same line on each, after NNODES=2 NODE_RANK=0 (then 1) MASTER_ADDR=HOST MASTER_PORT=29500 "
        f"and with {key} {number // 2}."
    )


def _score(run: Run) -> str:
    scores = run.row.scores
    if scores[run.arm_name] is None:
        return "No published figure."
    before, after = (shown(scores[name]) for name in ("base", run.arm_name))
    return f"Paper: {run.experiment.metric} {before} before, {after} after this run."


def _data(run: Run) -> str:
    about = run.arm.about or run.experiment.about
    places = " and ".join(run.data.values())
    column = (
        " Each row has the base model's log-probabilities in `ref_logps` (docs/objectives.md)."
        if run.arm.reference
        else ""
    )
    made = "" if run.data.keys() & run.builds.keys() else " Made by `dft rollout` (docs/rollout.md)."
    return f"Data: {places}: {about}.{made}{column}"


def _evaluation(run: Run) -> list[str]:
    if run.arm_name == "reward_model":
        return []
    config, out = f"yaml_examples/eval/{run.experiment.evaluate}.yaml", f"runs/eval/{run.folder}/{run.stem}"
    lines = ["#", "# Then:"] + ([_command(keys.merge(run))] if run.row.tuner == "lora" else [])
    return [*lines, _command(f"dft eval run {config} --model {keys.trained(run)} --out {out}")]


def _variants(run: Run) -> list[str]:
    if not run.variants:
        return []
    caption = "# Figure 3, learning rates and batch sizes beside this file's:"
    return ["#", caption, *(_command(keys.variant(run, name, changed)) for name, changed in run.variants.items())]
