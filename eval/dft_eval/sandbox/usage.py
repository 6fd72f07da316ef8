"""Resources used by a sandbox's processes: from the kernel's accounting in a control group, else from `/proc`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dft_eval.sandbox.cgroup import Group
from dft_eval.sandbox.program import Limits, Outcome

_CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """Resources used by all processes of a sandbox together at one moment."""

    cpu_s: float
    memory_bytes: int


class Meter:
    """Measures the processes of one sandbox, again and again.

    Args:
        find: Their ids.
        group: Their control group, where there is one.
    """

    def __init__(self, find: Callable[[], Sequence[int]], group: Group | None) -> None:
        self._find, self._group = find, group
        self._ticks: dict[tuple[int, int], int] = {}  # by process id and start time: the dead count on

    def measure(self) -> Usage:
        """CPU seconds and memory so far.

        Without a control group: CPU time that nobody waited for counts as far as it was seen. Memory is what is
        resident, with page tables, and all of every shared map, whether its pages are mapped now or not.
        """
        waited_for, memory_bytes = 0, 0
        shared: dict[str, int] = {}
        for pid in self._find():
            with contextlib.suppress(OSError, ValueError, IndexError):  # it ended meanwhile
                fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
                own, children = (sum(map(int, fields[first : first + 2])) for first in (11, 13))
                self._ticks[pid, int(fields[19])] = own
                waited_for += own + children
                memory_bytes += int(fields[21]) * _PAGE_BYTES + _page_table_bytes(pid)
                shared |= _shared_maps(pid)
        cpu_s = max(waited_for, sum(self._ticks.values())) / _CLOCK_TICKS_PER_S
        if self._group is not None:
            cpu_s = self._group.cpu_s()
        return Usage(cpu_s, max(memory_bytes, sum(shared.values())))


def with_cpu_s(outcome: Outcome, cpu_s: float, limits: Limits) -> Outcome:
    """The outcome with its CPU time, a timeout where that is the limit: the kernel may have ended it unseen."""
    if outcome.status == "ok" and cpu_s >= limits.cpu_s:
        return replace(outcome, status="timeout", cpu_s=cpu_s, reason=f"{cpu_s:.1f} CPU-s")
    return replace(outcome, cpu_s=cpu_s)


def accounted(outcome: Outcome, group: Group | None, limits: Limits) -> Outcome:
    """The outcome by the control group's account, which counts processes that were never seen too."""
    if group is None:
        return outcome
    if outcome.status == "ok" and group.has_run_out_of_memory():
        return replace(outcome, status="oom", reason=f"{limits.memory_mib} MiB of memory")
    return with_cpu_s(outcome, max(outcome.cpu_s, group.cpu_s()), limits)


def descendants(pid: int) -> list[int]:
    """The process and all its descendants."""
    found = [pid]
    for parent in found:  # grows while it is walked
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (thread / "children").read_bytes().split()]
    return found


def _page_table_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_bytes().splitlines():
        if line.startswith(b"VmPTE:"):
            return int(line.split()[1]) * 1024
    return 0


def _shared_maps(pid: int) -> dict[str, int]:
    """Bytes of anonymous maps that processes may share, by their names in the kernel."""
    found: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/maps").read_bytes().splitlines():
        span, rights, _, device, inode, *path = line.split(None, 5)
        if rights.endswith(b"s") and path and path[0].startswith((b"/dev/zero", b"/SYSV", b"/memfd:")):
            first, last = (int(address, 16) for address in span.split(b"-"))
            name = f"{device.decode()}:{inode.decode()}"
            found[name] = found.get(name, 0) + last - first
    return found
