"""Limits by the kernel's own accounting: a control group (version 1) for each program, where this process may make one.

It counts what nothing else sees: shared memory that no process maps, socket buffers, page tables, and the CPU time of
processes that nobody waited for. Version 2 is not used: its controllers cannot be had below a group with processes.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from functools import cache
from pathlib import Path

from dft_eval.sandbox.program import MIB, Limits

_CONTROLLERS = ("memory", "pids", "cpuacct")
_SPARE_PROCESSES = 8  # the sandbox's own
_REMOVE_WITHIN_S = 2.0
_numbers = itertools.count()


class Group:
    """A control group of one program.

    Args:
        limits: What its processes may use together.
    """

    def __init__(self, limits: Limits) -> None:
        name = f"{group_prefix(os.getpid())}{next(_numbers)}"
        self._folders = {controller: folder / name for controller, folder in _parents().items()}
        for folder in self._folders.values():
            folder.mkdir()
        memory_mib = limits.memory_mib + 2 * limits.disk_mib  # files in memory count as well
        self._write("memory", "memory.limit_in_bytes", str(memory_mib * MIB))
        self._write("pids", "pids.max", str(limits.num_processes + _SPARE_PROCESSES))

    def add(self, pid: int) -> None:
        """Take in a process, and with it all that it will start."""
        for controller in _CONTROLLERS:
            self._write(controller, "cgroup.procs", str(pid))

    def cpu_s(self) -> float:
        """CPU seconds of all processes that ever were in it."""
        return int((self._folders["cpuacct"] / "cpuacct.usage").read_text()) / 1e9

    def has_run_out_of_memory(self) -> bool:
        """Return True where the kernel has killed one of its processes for memory."""
        lines = (self._folders["memory"] / "memory.oom_control").read_text().splitlines()
        return any(line.startswith("oom_kill ") and line != "oom_kill 0" for line in lines)

    def close(self) -> None:
        """Remove it, once its processes are gone."""
        deadline = time.monotonic() + _REMOVE_WITHIN_S
        for folder in self._folders.values():
            while folder.exists():
                try:
                    folder.rmdir()
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.005)

    def _write(self, controller: str, name: str, value: str) -> None:
        (self._folders[controller] / name).write_text(value)


def open_group(limits: Limits) -> Group | None:
    """A new group; None where this process may make none."""
    return Group(limits) if _parents() else None


def can_make_groups() -> bool:
    """Return True where this process may make control groups."""
    return bool(_parents())


def group_prefix(process: int) -> str:
    """Return the prefix of the names of a process's groups."""
    return f"dft-sandbox-{process}-"


def group_globs(process: int) -> tuple[str, ...]:
    """Patterns of the folders of the groups that a process makes."""
    return tuple(f"{folder}/{group_prefix(process)}*" for folder in _parents().values())


@cache
def _parents() -> dict[str, Path]:
    """This process's own group of each controller; empty unless a group can be made below every one."""
    found = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            folder = Path("/sys/fs/cgroup") / controllers / path.strip("/")
            if controller in _CONTROLLERS and folder.is_dir():
                found[controller] = folder
    if len(found) != len(_CONTROLLERS):
        return {}
    for folder in found.values():
        trial = folder / f"{group_prefix(os.getpid())}trial"
        try:
            trial.mkdir()
        except OSError:
            return {}
        with contextlib.suppress(OSError):
            trial.rmdir()
    return found
