"""`dft eval run`: models on benchmarks, one run folder each."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from dft_eval.backends.resources import Resources
from dft_eval.records.model_hash import check_model, hash_model
from dft_eval.records.provenance import hash_prompts
from dft_eval.records.schema import Sample
from dft_eval.records.store import RunFolder
from dft_eval.run.config import EvalConfig
from dft_eval.run.generate import generate_answers
from dft_eval.run.scoring import finish_run
from dft_eval.run.selection import Catalog, check_choices, describe_task, find_missing, open_asked, select_tasks
from dft_eval.run.shards import Shard, check_shards, merge_shards
from dft_eval.run.summary import LIMITED
from dft_eval.tasks.base import Executor, Task, TaskSettings
from dft_eval.vision.judge import announce_calls

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Run:
    """One model on one benchmark."""

    name: str
    task: Task
    given: TaskSettings
    samples: list[Sample]
    asked: list[Sample]
    folder: RunFolder
    settings: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def run_evaluation(
    config: EvalConfig, catalog: Catalog, executor: Executor, *, shard: Shard | None = None
) -> dict[str, Mapping[str, Any]]:
    """Generate and score.

    Everything that can be missing is looked for before a model is loaded. All answers of a model come before
    the first is scored, so that a GPU is free as early as can be.

    Args:
        config: What to do.
        catalog: All benchmarks.
        executor: Where to score.
        shard: The share to do; None does all, after taking in what shards recorded.

    Returns:
        The metrics of each run, by its folder.

    Raises:
        EvalError: unknown names, missing prerequisites, a model that does not answer, a folder of another run.
    """
    check_choices(config, catalog)
    names = select_tasks(config.tasks, catalog)
    if config.on_missing == "skip":
        skipped = find_missing(config, catalog)
        for name, reason in skipped.items():
            logger.warning("SKIPPED %s: %s", name, reason)
        names = [name for name in names if name not in skipped]
    tasks = {name: open_asked(name, config, catalog) for name in names}
    if config.backend.model_at == "here":
        for model in config.arms().values():
            check_model(model)
    if config.vision.judge is not None:
        announce_calls(config.vision.judge, _count_judge_calls(config, tasks))
    results: dict[str, Mapping[str, Any]] = {}
    with Resources() as resources:
        for out, model in config.arms().items():
            runs = [_plan(name, task, model, out, config, shard) for name, task in tasks.items()]
            results |= _run_model(model, runs, executor, resources)
    return results


def _count_judge_calls(config: EvalConfig, tasks: Mapping[str, Task]) -> dict[str, int]:
    """Calls at most by benchmark, without those that need none."""
    counts = {
        name: len(config.arms()) * len(task.samples()[: config.limit]) * task.judge_calls_per_answer
        for name, task in tasks.items()
        if task.judge_calls_per_answer
    }
    return {name: count for name, count in counts.items() if count}


def _run_model(
    model: str, runs: Sequence[_Run], executor: Executor, resources: Resources
) -> dict[str, Mapping[str, Any]]:
    """All answers of a model, then their scores."""
    for run in runs:
        check_shards(run.folder, run.settings)
    try:
        for run in runs:
            with run.folder.claimed(run.settings):
                merge_shards(run.folder)
                run.folder.add_environments(run.task.describe_environments(run.given))
                open_backend = partial(run.task.open_backend, model, run.given, resources)
                generate_answers(run.name, run.asked, run.folder, open_backend, run.given.sampling)
    finally:
        resources.unload()
    results: dict[str, Mapping[str, Any]] = {}
    for run in runs:
        chosen = run.task.choose_executor(executor, run.folder.path, len(run.asked), run.given, resources)
        with run.folder.claimed(run.settings):
            metrics = finish_run(
                run.task, run.samples, run.folder, chosen, num_repeats=run.given.sampling.num_repeats, notes=run.notes
            )
        results[str(run.folder.path)] = metrics
    return results


def _plan(name: str, task: Task, model: str, out: Path, config: EvalConfig, shard: Shard | None) -> _Run:
    given = config.settings_of(type(task))
    samples = list(task.samples())
    notes = []
    if config.limit is not None:
        notes.append(f"{LIMITED} {config.limit} of {len(samples)} samples")
        samples = samples[: config.limit]
    asked = samples
    settings = {
        **describe_task(name, task),
        "model": model,
        "model_hash": hash_model(model),
        "backend": config.backend.model_dump(mode="json", exclude=set(config.backend.speed_only)),
        **asdict(given.sampling),
        **task.describe_settings(given),
        "limit": config.limit,
        "prompt_sha256": hash_prompts(asked),
        "shard": None if shard is None else str(shard),
    }
    path = out / name
    if shard is not None:
        asked = shard.select(asked)
        path = shard.folder(path)
        notes.append(f"shard {shard} only; when all are done, run the same command without --shard")
    return _Run(name, task, given, samples, asked, RunFolder(path), settings, notes)
