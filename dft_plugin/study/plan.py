"""The jobs of a study, each after the ones it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from dft_plugin.errors import ConfigError
from dft_plugin.study.arm_file import write_arm_file
from dft_plugin.study.design import ArmConfig, Framework, StudyConfig, read_yaml
from dft_plugin.study.frameworks import LlamaFactory, MsSwift, Trainer
from dft_plugin.study.job import Job
from dft_plugin.study.tools import EvalJob, ProbsJob, ReportJob, ScanJob
from dft_plugin.study.training import MergeJob, TrainJob


@dataclass(frozen=True)
class Run:
    """One model of the study.

    Attributes:
        arm: Its arm.
        seed: Of its training; None where the arm is one model for all seeds of the others.
        train: How it is trained; None for the study's own model.
        model: The study's own model.
        evaluations: In the order of the study.
        grid: See `NamedArm`.
    """

    arm: str
    seed: int | None
    train: TrainJob | None
    model: str
    evaluations: tuple[EvalJob, ...] = ()
    grid: dict[str, Any] | None = None

    @property
    def place(self) -> str:
        """`dft/seed0`, or `base`."""
        return self.arm if self.seed is None else f"{self.arm}/seed{self.seed}"

    def model_path(self) -> str:
        """The folder, or the name, of the model once it is trained."""
        return self.model if self.train is None else str(self.train.model)


@dataclass(frozen=True)
class Plan:
    """All of a study.

    Attributes:
        runs: Every model.
        jobs: Each after those it needs.
    """

    runs: tuple[Run, ...]
    jobs: tuple[Job, ...]

    def job(self, name: str) -> Job:
        """The job of that name.

        Raises:
            ConfigError: there is none.
        """
        found = next((job for job in self.jobs if job.name == name), None)
        if found is None:
            raise ConfigError(f"--job {name}: no such job; `--print-jobs` lists them.")
        return found

    def stages(self) -> list[list[Job]]:
        """The jobs in groups: those of a group need only jobs of the groups before it."""
        depth: dict[str, int] = {}
        for job in self.jobs:
            depth[job.name] = 1 + max((depth[name] for name in job.after), default=-1)
        return [[job for job in self.jobs if depth[job.name] == level] for level in sorted(set(depth.values()))]


def make_plan(study: StudyConfig) -> Plan:
    """Lay out the jobs; nothing is run or written.

    Raises:
        ConfigError: a file that cannot be read, or an arm that starts from one it cannot start from.
    """
    expanded = {arm.name: arm for arm in study.expanded()}
    arms = {name: arm.config for name, arm in expanded.items()}
    trainers: dict[Framework, Trainer] = {"llamafactory": LlamaFactory(), "ms_swift": MsSwift(study.swift_python)}
    runs: dict[str, list[Run]] = {}
    for name in _in_order(arms):
        arm = arms[name]
        if arm.framework is None or arm.train is None:
            runs[name] = [Run(name, None, None, study.model)]
            continue
        seeds = study.seeds if arm.seeds is None else arm.seeds
        is_shared = len(seeds) == 1 and any(other.start_from == name for other in arms.values())
        content = read_yaml(arm.train)
        runs[name] = [
            _trained(study, name, arm, seed, content, trainers[arm.framework], runs, is_shared=is_shared)
            for seed in seeds
        ]
    laid_out = [replace(_evaluated(study, run), grid=expanded[name].grid) for name in arms for run in runs[name]]
    return Plan(tuple(laid_out), tuple(_all_jobs(study, laid_out)))


def _in_order(arms: dict[str, ArmConfig]) -> list[str]:
    """Each arm after the one it starts from."""
    ordered: list[str] = []
    while waiting := [name for name in arms if name not in ordered]:
        ready = [name for name in waiting if arms[name].start_from in (None, *ordered)]
        if not ready:
            raise ConfigError(
                f"start_from: {', '.join(waiting)} start from each other or from an arm that is not there; "
                f"the arms are {', '.join(arms)}."
            )
        ordered += ready
    return ordered


def _trained(
    study: StudyConfig,
    name: str,
    arm: ArmConfig,
    seed: int,
    content: dict[str, Any],
    trainer: Trainer,
    runs: dict[str, list[Run]],
    *,
    is_shared: bool,
) -> Run:
    start = None if arm.start_from is None else _start_of(runs[arm.start_from], arm.start_from, name, seed)
    job_name = f"train/{name}" if is_shared else f"train/{name}/seed{seed}"
    keys = {
        **content,
        **arm.overrides,
        trainer.model_key: study.model,
        **trainer.fixed_keys(study.out / job_name),
        "seed": seed,
    }
    parent = None if start is None else start.train
    train = TrainJob(
        job_name,
        study.out,
        after=() if parent is None else (_last_of(parent),),
        env={**study.env, **arm.env},
        num_steps=100,
        trainer=trainer,
        keys=keys,
        launcher=tuple(arm.launcher),
        starts_from=parent,
    )
    return Run(name, None if is_shared else seed, train, study.model)


def _start_of(starts: Sequence[Run], arm: str, name: str, seed: int) -> Run:
    """The one run of an arm, or the one with the same seed."""
    found = [run for run in starts if run.seed in (None, seed)]
    if len(found) != 1:
        raise ConfigError(f"{name} with seed {seed} starts from {arm}, which has no run with that seed.")
    return found[0]


def _last_of(train: TrainJob) -> str:
    return _merge_name(train) if train.is_adapter else train.name


def _merge_name(train: TrainJob) -> str:
    return f"merge/{train.name.partition('/')[2]}"


def _evaluated(study: StudyConfig, run: Run) -> Run:
    jobs = [
        EvalJob(
            f"eval/{run.place}/{config.stem}",
            study.out,
            after=() if run.train is None else (_last_of(run.train),),
            env=study.env,
            config=config,
            out=study.out / "eval" / run.place,
            model=run.model_path,
            given_model=study.model if run.train is None else None,
        )
        for config in study.evaluation
    ]
    return replace(run, evaluations=tuple(jobs))


def _all_jobs(study: StudyConfig, runs: Sequence[Run]) -> list[Job]:
    jobs: list[Job] = []
    if study.scan is not None:
        jobs.append(ScanJob("scan", study.out, env=study.env, model=study.model, config=study.scan))
    for train in sorted((run.train for run in runs if run.train is not None), key=lambda train: train.depth):
        jobs.append(train)
        if train.is_adapter:
            jobs.append(MergeJob(_merge_name(train), study.out, after=(train.name,), env=study.env, train=train))
    for run in runs:
        jobs += run.evaluations
    if study.probs is not None:
        before = tuple(job.name for job in jobs if job.kind in ("train", "merge"))
        jobs.append(
            ProbsJob(
                "probs",
                study.out,
                after=before,
                env=study.env,
                needs_all=False,
                config=study.probs,
                models=partial(_models_there, runs),
            )
        )
    if study.evaluation:
        jobs.append(
            ReportJob(
                "report",
                study.out,
                after=tuple(job.name for job in jobs),
                env=study.env,
                needs_all=False,
                baseline=study.baseline or runs[0].arm,
            )
        )
    return jobs


def _models_there(runs: Sequence[Run]) -> dict[str, str]:
    """Every model by its place, without those whose training failed; all of them while nothing is trained."""
    there = [run for run in runs if run.train is None or run.train.is_done]
    chosen = there if any(run.train is not None for run in there) else runs
    return {run.place: run.model_path() for run in chosen}


def describe_runs(plan: Plan, failures: dict[str, str]) -> None:
    """Write beside each run's answers what made it, for the report.

    Args:
        plan: The study.
        failures: Why, by name of the job that failed.
    """
    for run in plan.runs:
        if not run.evaluations:
            continue
        chain = [name for job in run.evaluations for name in (*job.after, job.name)]
        chain += [run.train.name] if run.train is not None else []
        reasons = [failures[name] for name in chain if name in failures]
        about = {"arm": run.arm, "seed": run.seed, "failed": reasons[0] if reasons else None, "grid": run.grid}
        write_arm_file(run.evaluations[0].out, about, run.train, run.evaluations)
