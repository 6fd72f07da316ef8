"""`dft dynamics`: each checkpoint of training runs on the same problems, and on the same held-out rows."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dft_plugin.analysis.dynamics.training_runs import TrainingRun, read_run
from dft_plugin.analysis.pretrained import Dtype, require_packages
from dft_plugin.analysis.probs.checkpoints import Checkpoint
from dft_plugin.analysis.probs.run import ProbsSettings, run_probs
from dft_plugin.encoding.interface import Interface
from dft_plugin.errors import ConfigError, InputError
from dft_plugin.run_record import write_json

if TYPE_CHECKING:
    from dft_eval.run.config import EvalConfig
    from dft_eval.run.selection import Catalog
    from dft_eval.tasks.base import Executor
    from dft_plugin.analysis.dynamics.points import Point

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
NOTES = (
    "Bands are 95% intervals of each checkpoint alone, over problems (rows for nll and 1 - mean p): the same ones at "
    "each step, so neighbouring points move together. They say nothing about other training seeds.",
    "`best` was picked on the problems it is reported on. That is selection: its score is too high by chance, the more "
    "so the more checkpoints there are. Report the last checkpoint, or pick on held-out data.",
)


@dataclass(frozen=True)
class DynamicsSettings:
    """Settings of `dft dynamics`; see its help.

    Attributes:
        runs: Names and folders of training runs.
        config: YAML file of `dft eval run`.
        out: Folder of the result.
        every: Only steps that are multiples of it, and the last one.
        tasks: Benchmarks instead of the configuration's.
        limit: First samples only, instead of the configuration's limit.
        base: Model that the runs began with; None reads each run's record.
        data: Held-out rows for nll and 1 - mean p; none for none.
        samples: Rows of each file.
        dtype: What the models compute in on those rows.
        device: Where.
        interface: How those rows are put together.
    """

    runs: tuple[Checkpoint, ...]
    config: Path
    out: Path
    every: int = 1
    tasks: tuple[str, ...] = ()
    limit: int | None = None
    base: str | None = None
    data: tuple[Path, ...] = ()
    samples: int = 200
    dtype: Dtype = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    interface: Interface | None = None


@dataclass
class _Measured:
    """One model: the base, or a checkpoint.

    Attributes:
        path: Folder or hub id.
        points: By benchmark.
        likelihood: nll and 1 - mean p, with their intervals.
    """

    path: str
    points: dict[str, Point] = field(default_factory=dict)
    likelihood: dict[str, dict[str, Any]] = field(default_factory=dict)


def run_dynamics(settings: DynamicsSettings, catalog: Catalog, executor: Executor) -> dict[str, Any]:
    """Evaluate what is not evaluated yet; write `dynamics.json`, `dynamics.csv` and `dynamics.png`.

    Args:
        settings: What to do.
        catalog: All benchmarks.
        executor: Where to score.

    Returns:
        The content of `dynamics.json`.

    Raises:
        DftError: runs, checkpoints or data that cannot be compared.
        EvalError: as of `dft eval run`.
    """
    require_packages("dft dynamics", {"matplotlib": "matplotlib"})
    from dft_eval.run.config import load_config
    from dft_plugin.analysis.dynamics.figure import draw_dynamics
    from dft_plugin.analysis.dynamics.tables import write_csv

    runs = [read_run(run, base=settings.base, every=settings.every) for run in settings.runs]
    config = load_config(
        settings.config, model=runs[0].base, tasks=settings.tasks, out=settings.out, limit=settings.limit
    )
    if config.backend.model_at != "here":
        raise ConfigError(
            f"{settings.config}: the backend does not load the model it is given, so every step "
            "would get the same answers; hf and vllm are accepted."
        )
    measured = {label: _Measured(path) for label, path in _models(runs).items()}
    for label, one in measured.items():
        one.points = _evaluate(label, one.path, config, settings.out, catalog, executor)
    if settings.data:
        _add_likelihood(measured, settings)
    _refuse_other_problems(measured)
    result = _result(settings, config, runs, measured)
    write_json(settings.out / "dynamics.json", result)
    write_csv(result, settings.out / "dynamics.csv")
    draw_dynamics(result, settings.out / "dynamics.png")
    return result


def _base_label(base: str) -> str:
    """A folder's name for a base, the same whichever runs are drawn together."""
    return f"base/{Path(base).name}-{hashlib.sha256(base.encode()).hexdigest()[:8]}"


def _models(runs: Sequence[TrainingRun]) -> dict[str, str]:
    """Every model once: bases first, then the checkpoints."""
    models = {_base_label(run.base): run.base for run in runs}
    for run in runs:
        models |= {f"{run.name}/step-{step}": str(path) for step, path in run.checkpoints.items()}
    return models


def _evaluate(
    label: str, model: str, config: EvalConfig, out: Path, catalog: Catalog, executor: Executor
) -> dict[str, Point]:
    """The benchmarks by their names; what is recorded is not asked again."""
    from dft_eval.run.evaluate import run_evaluation
    from dft_eval.run.selection import open_asked
    from dft_plugin.analysis.dynamics.points import read_point

    folder = out / "eval" / label
    one = config.model_copy(update={"model": model, "models": None, "out": folder})
    logger.info("dft dynamics: %s", label)
    points = {}
    for path, metrics in run_evaluation(one, catalog, executor).items():
        name = Path(path).relative_to(folder).as_posix()
        points[name] = read_point(Path(path), metrics, open_asked(name, one, catalog))
    return points


def _add_likelihood(measured: Mapping[str, _Measured], settings: DynamicsSettings) -> None:
    found = run_probs(
        ProbsSettings(
            checkpoints=tuple(Checkpoint(label, one.path) for label, one in measured.items()),
            data=settings.data,
            out=settings.out / "probs",
            samples=settings.samples,
            dtype=settings.dtype,
            device=settings.device,
            interface=settings.interface,
        )
    )
    num_rows = sum(entry["num_rows"] for entry in found["data"])
    for one in found["checkpoints"]:
        nll, p = one["mean_nll_interval"] or (None, None), one["mean_p_interval"] or (None, None)
        lost = [None if end is None else 1 - end for end in reversed(p)]
        measured[one["name"]].likelihood = {
            "nll": {"value": one["mean_nll"], "low": nll[0], "high": nll[1], "num_items": num_rows},
            "one_minus_p": {"value": 1 - one["mean_p"], "low": lost[0], "high": lost[1], "num_items": num_rows},
        }


def _refuse_other_problems(measured: Mapping[str, _Measured]) -> None:
    """Every checkpoint was asked the same."""
    (first_label, first), *others = measured.items()
    for label, one in others:
        for task, point in one.points.items():
            if task not in first.points or point.prompt_sha256 != first.points[task].prompt_sha256:
                raise InputError(f"{first_label} and {label} were asked other problems of {task}; use a new --out.")


def _result(
    settings: DynamicsSettings, config: EvalConfig, runs: Sequence[TrainingRun], measured: Mapping[str, _Measured]
) -> dict[str, Any]:
    from dft_plugin import __version__

    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "dft dynamics",
        "settings": {
            "config": config.model_dump(mode="json", exclude={"model", "models", "out"}),
            "every": settings.every,
            "data": [str(path) for path in settings.data],
            "samples": settings.samples if settings.data else None,
        },
        "dft_plugin_version": __version__,
        "runs": [_run_record(run, measured) for run in runs],
        "notes": list(NOTES),
        "figure": str(settings.out / "dynamics.png"),
    }


def _run_record(run: TrainingRun, measured: Mapping[str, _Measured]) -> dict[str, Any]:
    from dft_plugin.analysis.dynamics.points import against

    base = measured[_base_label(run.base)]
    steps = {0: base, **{step: measured[f"{run.name}/step-{step}"] for step in run.checkpoints}}
    points: list[dict[str, Any]] = [
        {
            "step": step,
            "path": one.path,
            "tasks": {
                task: {**point.record, "from_step_0": against(base.points[task], point) if step else None}
                for task, point in one.points.items()
            },
            **one.likelihood,
        }
        for step, one in steps.items()
    ]
    best = {}
    for task in base.points:
        scored = [point for point in points if point["tasks"][task]["value"] is not None]
        if scored:
            best[task] = max(scored, key=lambda point: point["tasks"][task]["value"])["step"]
    return {"name": run.name, "path": str(run.path), "base": run.base, "points": points, "best": best}
