"""`dft eval score`: answers made elsewhere, scored into a run folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dft_eval.backends.replay import fill_in_task
from dft_eval.backends.resources import Resources
from dft_eval.errors import ConfigError
from dft_eval.records.jsonl import encode_record
from dft_eval.records.provenance import hash_prompts
from dft_eval.records.samples import answer_key, dump_answer, read_answers
from dft_eval.records.store import RunFolder
from dft_eval.run.scoring import finish_run
from dft_eval.run.selection import Catalog, describe_task, open_task, select_tasks
from dft_eval.run.shards import Shard, check_shards, merge_shards
from dft_eval.tasks.base import Executor, TaskSettings
from dft_eval.vision.settings import VisionSettings


@dataclass(frozen=True)
class ScoreRequest:
    """Task of `dft eval score`.

    Attributes:
        task: Name of the benchmark, or a pattern.
        samples: The JSONL file of answers; `{task}` in it stands for the benchmark's name with `_` for `/`.
        out: The run folder; of a pattern, the folder above one run folder for each benchmark.
        protocol: How answers become programs; None takes the benchmark's first.
        shard: The share to score; None scores all, after taking in what shards recorded.
        vision: The judge, for the protocol `judge`.
    """

    task: str
    samples: Path
    out: Path
    protocol: str | None = None
    shard: Shard | None = None
    vision: VisionSettings = field(default_factory=VisionSettings)


def score_files(request: ScoreRequest, catalog: Catalog, executor: Executor) -> dict[str, Mapping[str, Any]]:
    """Score a file of answers for each benchmark that a pattern stands for.

    Returns:
        The metrics of each run, by its folder; of a plain name one, in `out` itself.

    Raises:
        EvalError: as `score_file`; also several benchmarks with one file, or a file that is not there.
    """
    names = select_tasks([request.task], catalog)
    if names == [request.task]:
        return {str(request.out): score_file(request, catalog, executor)}
    if "{task}" not in str(request.samples):
        raise ConfigError(
            f"--task {request.task} stands for {len(names)} benchmarks, {names[0]} first, and --samples names one "
            f"file; put {{task}} into its name: --samples 'samples/{{task}}.jsonl' reads "
            f"{fill_in_task(Path('samples/{task}.jsonl'), names[0])}."
        )
    requests = [replace(request, task=name, out=request.out / name) for name in names]
    if absent := [path for name in names if not (path := fill_in_task(request.samples, name)).exists()]:
        raise ConfigError(f"{absent[0]} and {len(absent) - 1} more of {len(names)} files are not there.")
    return {str(each.out): score_file(each, catalog, executor) for each in requests}


def score_file(request: ScoreRequest, catalog: Catalog, executor: Executor) -> Mapping[str, Any]:
    """Score a file of answers.

    Returns:
        The metrics, as written to `metrics.json`.

    Raises:
        EvalError: unknown names, bad records, missing prerequisites, a folder of another run.
    """
    task = open_task(request.task, request.protocol, catalog)
    given = TaskSettings(vision=request.vision)
    task.check_settings(given)
    samples = task.samples()
    position = {sample.sample_id: index for index, sample in enumerate(samples)}
    answers = read_answers(fill_in_task(request.samples, request.task), position, task.texts)
    answers.sort(key=lambda answer: (position[answer.sample_id], answer.repeat))
    digest = hashlib.sha256(b"".join(encode_record(dump_answer(answer)) for answer in answers))
    settings = {
        **describe_task(request.task, task),
        "answers_sha256": digest.hexdigest(),
        "prompt_sha256": hash_prompts(samples),
        **task.describe_settings(given),
        "shard": None if request.shard is None else str(request.shard),
    }
    num_repeats = 1 + max(answer.repeat for answer in answers)
    folder = RunFolder(request.out if request.shard is None else request.shard.folder(request.out))
    notes = []
    if request.shard is not None:
        chosen = {sample.sample_id for sample in request.shard.select(samples)}
        answers = [answer for answer in answers if answer.sample_id in chosen]
        notes.append(f"shard {request.shard} only; when all are done, run the same command without --shard")
    check_shards(folder, settings)
    with folder.claimed(settings):
        merge_shards(folder)
        with folder.generations() as log:
            log.append(answer for answer in answers if answer_key(answer) not in log.records)
        with Resources() as resources:
            chosen_executor = task.choose_executor(executor, folder.path, len(answers), given, resources)
            return finish_run(task, samples, folder, chosen_executor, num_repeats=num_repeats, notes=notes)
