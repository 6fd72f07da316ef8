"""Promises of a sandbox about a program, the backends that do not make them, and the reasons.

The conformance suite has a test for each, which every backend passes that makes the promise: as root and as an
ordinary user.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from dft_eval.sandbox.cgroup import can_make_groups

_NO_GROUPS = "counted by a control group only, and this user may make none here"
_WITHOUT_NAMESPACES = "the kernel's file rules (Landlock) do not cover it and there is no namespace of its own"


@dataclass(frozen=True)
class Promise:
    """One property.

    Attributes:
        name: A word for tests and reports.
        text: What holds, whatever the program does.
        broken_by: Why not, by backend; empty where every one keeps it.
        needs_groups: Whether it is kept only where this process may make control groups.
    """

    name: str
    text: str
    broken_by: Mapping[str, str] = field(default_factory=dict)
    needs_groups: bool = False


PROMISES: tuple[Promise, ...] = (
    Promise("files-read", "it reads no file of the machine but /usr and a few of /etc"),
    Promise("files-written", "it writes no file of the machine"),
    Promise("files-learnt", "it learns nothing of other files, not even that they exist",
            {"landlock": _WITHOUT_NAMESPACES}),
    Promise("network", "it reaches no network, and makes sockets of no family but unix and internet"),
    Promise("unix-sockets", "it reaches no socket of the machine, by name, by path or through a pair"),
    Promise("ipc", "it reaches no message queue, semaphore or shared memory of the machine"),
    Promise("processes-seen", "it sees no other process and nothing of process 1 in /proc",
            {"landlock": "it sees their ids, and nothing in their folders"}),
    Promise("signals", "it signals, traces and reads the memory of no process but its own"),
    Promise("devices", "it opens no device but null, zero, full, random and urandom"),
    Promise("kernel-tables", "it reads no table of the machine's kernel: symbols, command line, mounts, sockets"),
    Promise("calls", "dangerous system calls are denied"),
    Promise("memory", "its processes' private memory is bounded"),
    Promise("memory-shared", "shared memory is bounded, whether it is mapped at the moment or not"),
    Promise("memory-tables", "page tables are bounded"),
    Promise("memory-kernel", "socket buffers and other memory of the kernel are bounded", needs_groups=True),
    Promise("cpu", "CPU time of processes that anybody waited for is bounded"),
    Promise("cpu-unwaited", "CPU time of short processes that nobody waits for is bounded", needs_groups=True),
    Promise("processes", "the number of processes and threads is bounded"),
    Promise("disk", "files are bounded, unlinked ones, names and deep trees included"),
    Promise("output", "output is bounded"),
    Promise("wall-time", "it ends in time whatever it does with its pipes"),
    Promise("leaves-nothing", "no process, folder or group outlives it, nor a killed worker for longer than 10 s"),
)  # fmt: skip


def broken_promises(backend: str) -> dict[str, str]:
    """Return the promises a backend does not make to this user on this machine: reasons by name.

    Args:
        backend: Its name.
    """
    found = {}
    for promise in PROMISES:
        if backend in promise.broken_by:
            found[promise.name] = promise.broken_by[backend]
        elif promise.needs_groups and not can_make_groups():
            found[promise.name] = f"{_NO_GROUPS} (user id {os.geteuid()})"
    return found
