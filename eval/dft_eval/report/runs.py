"""Reading run folders for a comparison, and refusing what cannot be compared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dft_eval.errors import ConfigError, StoreError
from dft_eval.metrics import check_mean
from dft_eval.records.changes import compare_settings
from dft_eval.records.store import RunFolder
from dft_eval.report.arms import find_about, find_all, name_of

_SAMPLING = ("temperature", "top_p", "top_k")
_VISION = ("judge", "min_pixels", "max_pixels")
_MUST_AGREE = ("protocol", "data_sha256", "prompt_sha256", "fingerprint", "limit", *_SAMPLING, *_VISION)


@dataclass(frozen=True)
class ComparedRun:
    """One run folder.

    Attributes:
        path: The folder.
        model: Its arm: of `arm.json`; else the folder above the task's where a run has several tasks, else the run's.
        seed: Of its training, by `arm.json`; None for a model that was not trained, or of which nothing is said.
        settings: Of `run.json`.
        environments: Of `run.json`.
        metrics: Of `metrics.json`.
    """

    path: Path
    model: str
    seed: int | None
    settings: Mapping[str, Any]
    environments: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Arm and seed."""
        return name_of(self.model, self.seed)

    @property
    def task(self) -> str:
        """The benchmark."""
        return str(self.metrics["task"])

    @property
    def is_complete(self) -> bool:
        """True where every answer of the benchmark has a score."""
        return bool(self.metrics["is_complete"])

    @property
    def is_subset(self) -> bool:
        """True for the first samples of the benchmark alone, all of them with a score."""
        return bool(self.metrics.get("is_subset", False))

    @property
    def can_be_compared(self) -> bool:
        """True where nothing is missing of what was asked: what is missing is not missing at random."""
        return self.is_complete or self.is_subset

    @property
    def headline(self) -> Mapping[str, Any] | None:
        """The headline with its name; of a subset its first column."""
        if not self.is_subset:
            return self.metrics["headline"]  # type: ignore[no-any-return]
        columns = self.metrics["partial_metrics"]
        return {"name": next(iter(columns)), **next(iter(columns.values()))} if columns else None

    @property
    def num_judged(self) -> int:
        """Answers with a verdict of right or wrong."""
        return int(self.metrics["n_scored"] - self.metrics["n_errors"] - self.metrics["n_unjudged"])

    @cached_property
    def by_problem(self) -> dict[str, float]:
        """The value of each problem, whose mean is the headline; of a run that can be compared.

        Raises:
            StoreError: `problems.json` is not there, cannot be read, or is not what the headline is the mean of.
        """
        path = RunFolder(self.path).problems_file
        headline = self.headline
        try:
            if headline is None:
                raise ValueError("there is no headline")
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["schema_version"] != 1:
                raise ValueError("another schema")
            if content["headline"] != headline["name"]:
                raise ValueError(f"it is about {content['headline']!r}, metrics.json about {headline['name']!r}")
            problems = {str(problem): float(value) for problem, value in content["problems"].items()}
            check_mean(problems, headline["value"], headline["num_items"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(
                f"{path} cannot be used ({error}); run the command that made the folder again: it judges nothing twice."
            ) from error
        return problems


def find_runs(paths: Sequence[Path]) -> list[ComparedRun]:
    """Every run folder at or below the paths, in the order given; of a model that failed, those that were finished.

    Raises:
        ConfigError: a path without a run or a model that failed, or one model twice on one benchmark.
        StoreError: a run that was not finished or cannot be read.
    """
    runs: list[ComparedRun] = []
    for path in paths:
        found = sorted(file.parent for file in path.rglob("run.json") if "shards" not in file.relative_to(path).parts)
        if not found and all(about.failed is None for about in find_all([path])):
            raise ConfigError(f"{path} holds no run folder (no run.json in or below it).")
        runs += [run for folder in found if (run := _read_run(folder, path)) is not None]
    seen: dict[tuple[str, int | None, str], Path] = {}
    for run in runs:
        if (other := seen.setdefault((run.model, run.seed, run.task), run.path)) != run.path:
            name = run.model if run.seed is None else f"{run.model} with seed {run.seed}"
            raise ConfigError(f"{other} and {run.path} are both {name} on {run.task}; give one of them.")
    return runs


def check_all_comparable(runs: Sequence[ComparedRun]) -> None:
    """Refuse a benchmark's runs that may not stand side by side, whichever model the others are compared with.

    Raises:
        ConfigError: as `check_comparable`.
    """
    firsts: dict[str, ComparedRun] = {}
    for run in runs:
        check_comparable(firsts.setdefault(run.task, run), run)


def check_comparable(first: ComparedRun, second: ComparedRun) -> None:
    """Refuse runs whose difference would not be the model's.

    Raises:
        ConfigError: other prompts, protocol, data, graders, sampling or headline; says which.
    """
    before = {name: first.settings.get(name) for name in _MUST_AGREE}
    now = {name: second.settings.get(name) for name in _MUST_AGREE}
    if differences := compare_settings(before, now):
        raise ConfigError(f"{first.path} and {second.path} cannot be compared: {'; '.join(differences)}.")
    if first.metrics["num_repeats"] != second.metrics["num_repeats"]:
        counts = f"{first.metrics['num_repeats']} and {second.metrics['num_repeats']}"
        raise ConfigError(f"{first.path} and {second.path} have {counts} answers a problem; use the same number.")
    names = [run.headline["name"] for run in (first, second) if run.headline is not None]
    if len(set(names)) > 1:
        found = f"the headlines {names[0]!r} and {names[1]!r}"
        raise ConfigError(f"{first.path} and {second.path} have {found}; run the commands that made them again.")


def _read_run(folder: Path, given: Path) -> ComparedRun | None:
    """None for what a failed model left unfinished."""
    content = RunFolder(folder).read_run()
    path, about = folder / "metrics.json", find_about(folder, given)
    if about is not None and about.failed is not None and not path.exists():
        return None
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        if metrics["schema_version"] != 1 or not isinstance(metrics["is_complete"], bool):
            raise ValueError("another schema")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} cannot be read ({error}); run the command that made the folder again.") from error
    task = str(metrics["task"])
    if content["settings"].get("task") != task:
        raise StoreError(f"{folder}: run.json and metrics.json are about different benchmarks.")
    if about is not None:
        return ComparedRun(folder, about.arm, about.seed, content["settings"], content["environments"], metrics)
    parts = task.split("/")
    above = folder.resolve()
    is_nested = above.parts[-len(parts) :] == tuple(parts)
    model = above.parents[len(parts) - 1].name if is_nested else above.name
    return ComparedRun(folder, model, None, content["settings"], content["environments"], metrics)
