"""The demo's training runs, as jobs of a study, and what they leave behind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dft_plugin.demo.keys import Arm, make_keys
from dft_plugin.errors import DftError
from dft_plugin.study.frameworks import LlamaFactory, MsSwift
from dft_plugin.study.job import Done
from dft_plugin.study.training import TrainJob, read_record


@dataclass(frozen=True)
class ArmResult:
    """A finished arm.

    Attributes:
        arm: What was trained.
        history: One record a step: `step`, `loss`, `nll`, `one_minus_p`, `grad_norm`, ...
        wall_s: Seconds from start to end.
        cpu_s: CPU seconds of the process and its children.
        framework_version: What trained it, from the record the plugin left.
    """

    arm: Arm
    history: tuple[dict[str, float], ...]
    wall_s: float
    cpu_s: float
    framework_version: str

    def curve(self, key: str) -> list[float]:
        """The values of `key`, a step each."""
        return [record[key] for record in self.history]


def make_jobs(arms: Sequence[Arm], folder: Path, swift_python: Path | None) -> dict[str, TrainJob]:
    """The job of each arm by its name.

    Args:
        arms: Each after the one it starts from.
        folder: The demo's.
        swift_python: Interpreter of the ms-swift environment; None looks beside this one.
    """
    trainers = {"llamafactory": LlamaFactory(), "ms_swift": MsSwift(swift_python)}
    jobs: dict[str, TrainJob] = {}
    for arm in arms:
        start = None if arm.starts_from is None else jobs[arm.starts_from]
        jobs[arm.name] = TrainJob(
            arm.job_name,
            folder,
            after=() if start is None else (start.name,),
            env=_environment(folder),
            num_steps=arm.num_steps,
            trainer=trainers[arm.framework],
            keys=make_keys(arm, folder),
            starts_from=start,
        )
    return jobs


def read_result(arm: Arm, folder: Path, done: Done) -> ArmResult:
    """The steps and the cost of a finished arm.

    Raises:
        DftError: the trainer logged another number of steps than it was asked for.
    """
    path = folder / arm.trained_model / "trainer_state.json"
    records: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["log_history"]
    steps = tuple(record for record in records if "loss" in record)
    if len(steps) != arm.num_steps:
        raise DftError(f"{path} has {len(steps)} logged steps; {arm.num_steps} were asked for. Delete {folder}.")
    record = read_record(folder / arm.job_name)
    version = f"{record['framework']} {record['framework_version']}"
    return ArmResult(arm, steps, done.wall_s, done.cpu_s, version)


def _environment(folder: Path) -> dict[str, str]:
    """Offline, on the CPU, one thread, caches inside the demo's folder."""
    cache = folder.absolute() / ".cache"
    return {
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "USE_HF": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(cache / "huggingface"),
        "HF_DATASETS_CACHE": str(cache / "datasets"),
        "MODELSCOPE_CACHE": str(cache / "modelscope"),
    }
