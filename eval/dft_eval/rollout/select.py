"""`dft rollout select`: a sampled rollout graded, and made into training data."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from dft_eval.errors import BackendError, ConfigError, StoreError
from dft_eval.records.files import make_folder, write_whole
from dft_eval.records.samples import answer_key
from dft_eval.records.schema import Answer, Score
from dft_eval.records.store import RunFolder
from dft_eval.rollout.figure import draw_pass_rates
from dft_eval.rollout.grading import grade_answers
from dft_eval.rollout.prompt import PROMPTS_NAME, Prompt, load_prompts
from dft_eval.rollout.selection import select_answers
from dft_eval.rollout.training_files import write_training_files

MANIFEST_NAME = "manifest.json"


def select_rollouts(
    run: Path, out: Path, *, max_per_prompt: int | None = None, num_workers: int | None = None
) -> dict[str, Any]:
    """Grade a rollout and write training data; an interrupted grading resumes.

    Args:
        run: Folder of `dft rollout sample`.
        out: Where the data goes: `llamafactory/`, `ms_swift/`, `pass_rates.svg`, `manifest.json`.
        max_per_prompt: Most right answers and most wrong ones of a prompt.
        num_workers: Grading processes; None is one a core.

    Returns:
        The manifest: settings of the rollout, counts, rows and sha256 of each file. The same rollout and options give
        the same bytes.

    Raises:
        ConfigError: the folder is no rollout.
        BackendError: answers are missing.
        StoreError: a verdict could not be had, or a file cannot be written.
    """
    folder = RunFolder(run)
    if not folder.run_file.is_file():
        raise ConfigError(f"{run} is no rollout; make one: dft rollout sample CONFIG.yaml")
    settings = folder.read_run()["settings"]
    if settings.get("kind") != "rollout":
        raise ConfigError(f"{run} is a run of `dft eval`, whose answers are no training data; give a rollout.")
    if settings["shard"] is not None:
        raise ConfigError(f"{run} is one shard; run `dft rollout sample` without --shard, which merges them, first.")
    with folder.claimed(settings):
        prompts = load_prompts(run / PROMPTS_NAME)
        answers = _complete(folder, prompts, settings["num_repeats"])
        by_id = {prompt.prompt_id: prompt for prompt in prompts}
        scores = grade_answers(folder, answers, by_id, settings["rules"], num_workers)
    _refuse_unjudged(scores)
    selection = select_answers(prompts, answers, scores, max_per_prompt)
    make_folder(out)
    manifest = {
        "schema_version": 1,
        "rollout": settings,
        "max_per_prompt": max_per_prompt,
        "prompts": len(prompts),
        "answers": selection.counts,
        "statuses": dict(sorted(Counter(score.status for score in scores).items())),
        "prompts_by_right_answers": {str(key): count for key, count in selection.pass_rates.items()},
        "pass_rate": sum(bool(score.passed) for score in scores) / len(scores),
        "files": write_training_files(out, selection.chosen),
    }
    write_whole(out / "pass_rates.svg", draw_pass_rates(selection.pass_rates, settings["num_repeats"]))
    write_whole(out / MANIFEST_NAME, json.dumps(manifest, indent=2, allow_nan=False) + "\n")
    return manifest


def _complete(folder: RunFolder, prompts: list[Prompt], num_repeats: int) -> list[Answer]:
    """Every answer, in the order of the prompts."""
    with folder.generations() as log:
        found = dict(log.records)
    wanted = [(prompt.prompt_id, repeat) for prompt in prompts for repeat in range(num_repeats)]
    if missing := [key for key in wanted if key not in found]:
        raise BackendError(
            f"{folder.path} lacks {len(missing)} of {len(wanted)} answers: it was interrupted, or its shards are not "
            "merged. Run `dft rollout sample` with the same configuration again."
        )
    assert len(found) == len(wanted), sorted(map(answer_key, found.values()))[:1]
    return [found[key] for key in wanted]


def _refuse_unjudged(scores: list[Score]) -> None:
    unjudged = [score for score in scores if score.passed is None]
    if unjudged:
        raise StoreError(
            f"{len(unjudged)} answers could not be graded ({unjudged[0].detail.get('message', '')!s:.200}); nothing "
            "was written. Run the same command again: these alone are graded anew."
        )
