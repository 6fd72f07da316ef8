"""`dft eval run`: models on benchmarks, one run folder each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from dft_eval.backends.base import Backend, SamplingParams, check_interface
from dft_eval.backends.settings import HfSettings, OpenAISettings, ReplaySettings, VllmSettings
from dft_eval.records.model_hash import check_model, hash_model
from dft_eval.records.provenance import hash_prompts
from dft_eval.records.schema import Sample
from dft_eval.records.store import RunFolder
from dft_eval.run.config import EvalConfig
from dft_eval.run.generate import generate_answers
from dft_eval.run.judging import Executor
from dft_eval.run.scoring import finish_run
from dft_eval.run.selection import Catalog, describe_task, find_missing, open_asked, select_tasks
from dft_eval.run.shards import Shard, check_shards, merge_shards
from dft_eval.tasks.base import Task
from dft_eval.vision.judge import announce_calls, choose_executor
from dft_eval.vision.prerequisites import describe_harness, describe_vision
from dft_eval.vision.process import VlmevalProcess

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Run:
    """One model on one benchmark."""

    name: str
    task: Task
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
        executor: Where to judge.
        shard: The share to do; None does all, after taking in what shards recorded.

    Returns:
        The metrics of each run, by its folder.

    Raises:
        EvalError: unknown names, missing prerequisites, a model that does not answer, a folder of another run.
    """
    names = select_tasks(config.tasks, catalog)
    if config.on_missing == "skip":
        skipped = find_missing(config, catalog)
        for name, reason in skipped.items():
            logger.warning("SKIPPED %s: %s", name, reason)
        names = [name for name in names if name not in skipped]
    tasks = {name: open_asked(name, config, catalog) for name in names}
    if isinstance(config.backend, (HfSettings, VllmSettings)):
        for model in config.arms().values():
            check_model(model)
    if config.vision.judge is not None:
        announce_calls(config.vision.judge, tasks.values(), limit=config.limit, num_models=len(config.arms()))
    results: dict[str, Mapping[str, Any]] = {}
    with closing(VlmevalProcess(config.vision.python)) as vlmeval:
        for out, model in config.arms().items():
            runs = [_plan(name, task, model, out, config, shard) for name, task in tasks.items()]
            results |= _run_model(model, runs, config, executor, vlmeval)
    return results


def _run_model(
    model: str, runs: Sequence[_Run], config: EvalConfig, executor: Executor, vlmeval: VlmevalProcess
) -> dict[str, Mapping[str, Any]]:
    """All answers of a model, then their scores."""
    sampling = config.sampling.to_params()
    for run in runs:
        if not run.task.harness:
            check_interface(run.name, run.asked, config.interface)
        check_shards(run.folder, run.settings)
    backend = _LazyBackend(config, model, vlmeval)
    try:
        for run in runs:
            with run.folder.claimed(run.settings):
                merge_shards(run.folder)
                if run.task.harness:
                    run.folder.add_environments(describe_harness(config, run.task.protocol))
                generate_answers(run.name, run.asked, run.folder, backend.get(run), sampling)
    finally:
        backend.close()
    results: dict[str, Mapping[str, Any]] = {}
    for run in runs:
        judge = choose_executor(run.task, executor, config.vision, run.folder.path, len(run.asked), vlmeval)
        with run.folder.claimed(run.settings):
            metrics = finish_run(
                run.task, run.samples, run.folder, judge, num_repeats=sampling.num_repeats, notes=run.notes
            )
        results[str(run.folder.path)] = metrics
    return results


def _plan(name: str, task: Task, model: str, out: Path, config: EvalConfig, shard: Shard | None) -> _Run:
    samples = list(task.samples())
    asked = samples if config.limit is None else samples[: config.limit]
    notes = [] if config.limit is None else [f"--limit {config.limit} of {len(samples)} samples"]
    settings = {
        **describe_task(name, task),
        "model": model,
        "model_hash": hash_model(model),
        "interface": "chat" if task.harness else config.interface,
        "backend": config.backend.model_dump(mode="json", exclude=set(config.backend.speed_only)),
        **config.sampling.model_dump(),
        **(describe_vision(config, task.protocol) if task.harness else {}),
        "limit": config.limit,
        "prompt_sha256": hash_prompts(asked),
        "shard": None if shard is None else str(shard),
    }
    path = out / name
    if shard is not None:
        asked = shard.select(asked)
        path = shard.folder(path)
        notes.append(f"shard {shard} only; when all are done, run the same command without --shard")
    return _Run(name, task, samples, asked, RunFolder(path), settings, notes)


class _LazyBackend:
    """The backend of one model, made when the first answer is wanted."""

    def __init__(self, config: EvalConfig, model: str, vlmeval: VlmevalProcess) -> None:
        self._config, self._model, self._vlmeval = config, model, vlmeval
        self._made: Backend | None = None

    def get(self, run: _Run) -> Callable[[], Backend]:
        """Makes the backend, or gives the one that was made."""
        settings = self._config.backend
        if isinstance(settings, ReplaySettings):
            from dft_eval.backends.replay import ReplayBackend

            samples = str(settings.samples).replace("{task}", run.name.replace("/", "_"))
            return lambda: ReplayBackend(Path(samples))
        if run.task.harness:
            return partial(self._make_vlmeval, run.task)
        return self._make_once

    def close(self) -> None:
        """Free what was made, here and in VLMEvalKit's process."""
        self._close_own()
        if self._vlmeval.is_running:
            for _ in self._vlmeval.run({"job": "forget_model"}):
                pass

    def _close_own(self) -> None:
        if self._made is not None:
            self._made.close()
            self._made = None

    def _make_once(self) -> Backend:
        if self._made is None:
            logger.info("loading %s", self._model)
            self._made = _make_backend(self._config, self._model, self._config.sampling.to_params())
        return self._made

    def _make_vlmeval(self, task: Task) -> Backend:
        """One a benchmark; the model stays loaded in VLMEvalKit's process."""
        from dft_eval.tasks.vision.benchmarks import VisionTask
        from dft_eval.vision.backend import VlmevalBackend

        self._close_own()  # two copies of a model may not fit
        assert isinstance(task, VisionTask) and isinstance(self._config.backend, (HfSettings, OpenAISettings))
        sampling = self._config.sampling.to_params()
        return VlmevalBackend(task, self._model, self._config.backend, self._config.vision, sampling, self._vlmeval)


def _make_backend(config: EvalConfig, model: str, sampling: SamplingParams) -> Backend:
    settings = config.backend
    if isinstance(settings, OpenAISettings):
        from dft_eval.backends.openai_server import OpenAIBackend

        return OpenAIBackend(model, settings, config.interface, sampling)
    if isinstance(settings, VllmSettings):
        from dft_eval.backends.vllm_local import VllmBackend

        return VllmBackend(model, settings, config.interface, sampling)
    if isinstance(settings, HfSettings):
        from dft_eval.backends.hf import HfBackend

        return HfBackend(model, settings, config.interface, sampling)
    raise TypeError(settings)
