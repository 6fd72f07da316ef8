"""Run arms as child processes, several at a time, each after the arm it starts from.

A finished arm is recorded in `arm.json` and is not trained again while its settings, its data and the arm
it starts from stay the same.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dft_plugin.errors import DftError
from dft_plugin.run_record import RECORD_NAME, write_json
from dft_plugin.study.arms import Arm, ArmResult, read_history
from dft_plugin.study.commands import write_command

Progress = Callable[[Arm, int], None]

_NUM_TAIL_LINES = 25
_POLL_S = 0.2
_TERMINATION_S = 5.0


@dataclass
class _Child:
    arm: Arm
    process: subprocess.Popen[bytes]
    settings_hash: str
    started: float


def run_arms(
    arms: Sequence[Arm], folder: Path, *, swift: Path | None, num_jobs: int, on_progress: Progress
) -> dict[str, ArmResult]:
    """Train `arms`, at most `num_jobs` at once; finished ones with the same settings are not trained again.

    Args:
        arms: Each after the arm it starts from.
        folder: The study's folder; the children work there.
        swift: The `swift` command, for arms of ms-swift.
        num_jobs: Processes at once, one thread each.
        on_progress: Called with an arm and its number of finished steps.

    Returns:
        Results by arm name.

    Raises:
        DftError: an arm failed; the message has the end of its log. The others are ended.
    """
    results: dict[str, ArmResult] = {}
    hashes: dict[str, str] = {}
    children: list[_Child] = []
    waiting = list(arms)
    try:
        while waiting or children:
            for arm in [arm for arm in waiting if arm.starts_from is None or arm.starts_from in results]:
                settings_hash = arm.settings_hash(hashes.get(arm.starts_from or "", ""))
                finished = _load_result(arm, folder, settings_hash)
                if finished is not None:
                    results[arm.name], hashes[arm.name] = finished, settings_hash
                    on_progress(arm, arm.num_steps)
                elif len(children) < num_jobs:
                    children.append(_start(arm, folder, swift, settings_hash))
                else:
                    continue
                waiting.remove(arm)
            for child in list(children):
                on_progress(child.arm, _count_lines(folder / child.arm.progress_file, child.arm.num_steps))
                result = _collect(child, folder)
                if result is not None:
                    children.remove(child)
                    results[child.arm.name], hashes[child.arm.name] = result, child.settings_hash
                    on_progress(child.arm, child.arm.num_steps)
            time.sleep(_POLL_S if children else 0)
    finally:
        _end(children)
    return results


def _start(arm: Arm, folder: Path, swift: Path | None, settings_hash: str) -> _Child:
    shutil.rmtree(folder / arm.name, ignore_errors=True)
    command = write_command(arm, folder, swift)
    with (folder / arm.name / "train.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=_environment(folder, Path(command[0]).parent),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches us alone; we end the whole group
        )
    return _Child(arm, process, settings_hash, time.monotonic())


def _environment(folder: Path, programs: Path) -> dict[str, str]:
    """Offline, on the CPU, one thread, caches inside the study's folder."""
    removed = {"FORCE_TORCHRUN", "DFT_LOSS_CONFIG", "PYTHONPATH", "VIRTUAL_ENV", "ALLOW_EXTRA_ARGS"}
    cache = folder / ".cache"
    return {
        **{key: value for key, value in os.environ.items() if key not in removed},
        "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '')}",
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


def _collect(child: _Child, folder: Path) -> ArmResult | None:
    """The result once the child has ended; None while it runs."""
    pid, status, usage = os.wait4(child.process.pid, os.WNOHANG)
    if not pid:
        return None
    child.process.returncode = os.waitstatus_to_exitcode(status)
    arm, log = child.arm, folder / child.arm.name / "train.log"
    if child.process.returncode != 0:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-_NUM_TAIL_LINES:])
        raise DftError(
            f"arm {arm.name} ended with exit code {child.process.returncode}. The end of {log}:\n{tail}\n"
            f"To repeat it alone: cd {folder} && {arm.rerun_command()}"
        )
    record = json.loads((folder / arm.trained_model / RECORD_NAME).read_text(encoding="utf-8"))
    if record["loss_type"] != arm.loss_type:
        raise DftError(f"arm {arm.name} was asked for {arm.loss_type} and trained {record['loss_type']}; see {log}.")
    summary = {
        "schema_version": 1,
        "settings_hash": child.settings_hash,
        "command": arm.rerun_command(),
        "framework_version": f"{record['framework']} {record['framework_version']}",
        "wall_s": round(time.monotonic() - child.started, 2),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
    }
    write_json(folder / arm.name / "arm.json", summary)
    return _load_result(arm, folder, child.settings_hash)


def _load_result(arm: Arm, folder: Path, settings_hash: str) -> ArmResult | None:
    path = folder / arm.name / "arm.json"
    if not path.exists():
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    if record["settings_hash"] != settings_hash:
        return None
    return ArmResult(
        arm, read_history(arm, folder), record["wall_s"], record["cpu_s"], framework_version=record["framework_version"]
    )


def _count_lines(path: Path, most: int) -> int:
    return min(path.read_bytes().count(b"\n"), most) if path.exists() else 0


def _end(children: Sequence[_Child]) -> None:
    """End what still runs, children of children included."""
    running = [child.process for child in children if child.process.returncode is None]
    for process in running:
        _signal_group(process.pid, signal.SIGTERM)
    for process in running:
        try:
            process.wait(_TERMINATION_S)
        except subprocess.TimeoutExpired:
            _signal_group(process.pid, signal.SIGKILL)
            process.wait()


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return  # it has ended in the meantime
