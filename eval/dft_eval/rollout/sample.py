"""`dft rollout sample`: several answers of a model to each prompt, recorded as they come."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from dft_eval.backends.resources import Resources
from dft_eval.records.files import write_whole
from dft_eval.records.model_hash import check_model, hash_model
from dft_eval.records.store import RunFolder
from dft_eval.rollout.config import RolloutConfig
from dft_eval.rollout.prompt import PROMPTS_NAME, Prompt, dump_prompts
from dft_eval.rollout.prompts import PromptSet, read_prompts
from dft_eval.run.generate import generate_answers
from dft_eval.run.shards import Shard, check_shards, merge_shards

logger = logging.getLogger(__name__)


def sample_rollouts(config: RolloutConfig, *, shard: Shard | None = None) -> dict[str, Any]:
    """Ask for every answer that the run folder does not hold yet; an interrupted run of the same settings resumes.

    Args:
        config: What to do.
        shard: The share of the prompts to do; None does all, after taking in what shards recorded.

    Returns:
        `folder`, and counts of prompts and answers.

    Raises:
        EvalError: unusable prompts, a model that does not answer, a folder of another run.
    """
    found = read_prompts(config.prompts, config.interface, config.limit)
    if config.backend.model_at == "here":
        check_model(config.model)
    settings = _settings(config, found, shard)
    asked = found.prompts if shard is None else shard.select(found.prompts)
    folder = RunFolder(config.out if shard is None else shard.folder(config.out))
    check_shards(folder, settings)
    with Resources() as resources, folder.claimed(settings):
        write_whole(folder.path / PROMPTS_NAME, dump_prompts(found.prompts))
        merge_shards(folder)
        return _ask(config, asked, folder, resources)


def _ask(config: RolloutConfig, asked: list[Prompt], folder: RunFolder, resources: Resources) -> dict[str, Any]:
    max_new_tokens = config.sampling.max_new_tokens
    assert max_new_tokens is not None  # the configuration sees to it
    samples = [prompt.sample(config.prompts.stop, max_new_tokens) for prompt in asked]
    generate_answers(
        "rollouts",
        samples,
        folder,
        lambda: resources.load(config.backend.make, config.model, config.interface, config.sampling),
        config.sampling,
    )
    with folder.generations() as log:
        answers = list(log.records.values())
    return {
        "folder": str(folder.path),
        "prompts": len(asked),
        "answers": len(answers),
        "truncated": sum(answer.finish_reason == "length" for answer in answers),
    }


def _settings(config: RolloutConfig, found: PromptSet, shard: Shard | None) -> Mapping[str, Any]:
    """All that decides an answer or its verdict."""
    return {
        "kind": "rollout",
        "model": config.model,
        "model_hash": hash_model(config.model),
        "rules": config.rules,
        "interface": config.interface,
        "backend": config.backend.model_dump(mode="json", exclude=set(config.backend.speed_only)),
        **asdict(config.sampling),
        # where the file lies does not decide an answer
        "prompts": {**config.prompts.model_dump(mode="json"), "file": config.prompts.file.name},
        "counts": found.counts,
        "limit": config.limit,
        "prompts_sha256": hashlib.sha256(dump_prompts(found.prompts).encode()).hexdigest(),
        "shard": None if shard is None else str(shard),
    }
