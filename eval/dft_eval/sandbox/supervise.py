"""Feeds a running sandbox, collects what it prints and ends it where it goes over a limit."""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from dft_eval.sandbox.program import MIB, Limits, Outcome, OutcomeStatus

KEPT_OUTPUT_BYTES = MIB
"""Most bytes kept of each stream: the first half and the last half."""

_TICK_S = 0.1
_CHUNK_BYTES = 64 * 1024
_CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """What all processes of a sandbox use together at one moment."""

    cpu_s: float
    memory_bytes: int


@dataclass(frozen=True)
class Watch:
    """What the supervisor may ask and do while a program runs.

    Attributes:
        usage: Measures all its processes.
        is_disk_full: Whether a writable folder holds more files or bytes than allowed.
        kill: Ends all its processes; harmless when they are gone.
        overrun: Why it has to end after so many CPU seconds; empty where it has not.
    """

    usage: Callable[[], Usage]
    is_disk_full: Callable[[], bool]
    kill: Callable[[], None]
    overrun: Callable[[float], str] | None = None


class _Kept:
    """The first and the last bytes of a stream."""

    def __init__(self, max_bytes: int) -> None:
        self._half = max_bytes // 2
        self._head, self._tail = bytearray(), bytearray()
        self.num_bytes = 0

    def add(self, chunk: bytes) -> None:
        self.num_bytes += len(chunk)
        room = self._half - len(self._head)
        self._head += chunk[:room]
        self._tail += chunk[room:]
        del self._tail[: -self._half]

    def content(self) -> bytes:
        return bytes(self._head + self._tail)


def supervise(process: subprocess.Popen[bytes], stdin: bytes, limits: Limits, watch: Watch, kept_bytes: int) -> Outcome:
    """Wait for the process's end, or bring it about.

    Args:
        process: Started with three pipes.
        stdin: What to write to it.
        limits: When to end it.
        watch: How to measure and end it.
        kept_bytes: Most bytes kept of each stream.

    Returns:
        The outcome with the process's return code as the kernel tells it (a signal as 128 + N).
    """
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    started = time.monotonic()
    streams: dict[IO[bytes], _Kept] = {process.stdout: _Kept(kept_bytes), process.stderr: _Kept(kept_bytes)}
    ended_by: OutcomeStatus = "ok"
    reason = ""
    next_look = started + _TICK_S
    pidfd = os.pidfd_open(process.pid)
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream, selectors.EVENT_READ)
        selector.register(pidfd, selectors.EVENT_READ)
        pending = memoryview(stdin)
        if pending:
            os.set_blocking(process.stdin.fileno(), False)
            selector.register(process.stdin, selectors.EVENT_WRITE)
        else:
            process.stdin.close()
        while selector.get_map():
            for key, _ in selector.select(_TICK_S):
                if key.fileobj is process.stdin:
                    if process.stdin.closed:
                        continue  # the process ended in this very round
                    pending = _feed(process.stdin, pending)
                    if not pending:
                        selector.unregister(process.stdin)
                        process.stdin.close()
                elif key.fileobj == pidfd:
                    selector.unregister(pidfd)
                    if not process.stdin.closed:
                        selector.unregister(process.stdin)
                        process.stdin.close()
                    watch.kill()  # whatever outlived the program holds the pipes open
                else:
                    stream = key.fileobj  # type: ignore[assignment]
                    chunk = os.read(key.fd, _CHUNK_BYTES)
                    if chunk:
                        streams[stream].add(chunk)
                    else:
                        selector.unregister(stream)
                        stream.close()
            if ended_by == "ok" and sum(kept.num_bytes for kept in streams.values()) > limits.output_mib * MIB:
                ended_by, reason = "output_limit", f"more than {limits.output_mib} MiB of output"
                watch.kill()
            now = time.monotonic()
            if now >= next_look and ended_by == "ok":
                next_look = now + _TICK_S
                ended_by, reason = _judge(watch, limits, now - started)
                if ended_by != "ok":
                    watch.kill()
    os.close(pidfd)
    _, wait_status, used = os.wait4(process.pid, 0)
    returncode = os.waitstatus_to_exitcode(wait_status)
    process.returncode = returncode  # this module waited, not Popen
    outcome = Outcome(
        ended_by,
        128 - returncode if returncode < 0 else returncode,
        streams[process.stdout].content(),
        streams[process.stderr].content(),
        cpu_s=0.0,
        wall_s=time.monotonic() - started,
        reason=reason,
    )
    return with_cpu_s(outcome, used.ru_utime + used.ru_stime, limits)


def with_cpu_s(outcome: Outcome, cpu_s: float, limits: Limits) -> Outcome:
    """The outcome with its CPU time, a timeout where that is the limit: the kernel may have ended it unseen."""
    if outcome.status == "ok" and cpu_s >= limits.cpu_s:
        return replace(outcome, status="timeout", cpu_s=cpu_s, reason=f"{cpu_s:.1f} CPU-s")
    return replace(outcome, cpu_s=cpu_s)


def measure(pids: Sequence[int]) -> Usage:
    """CPU seconds (with those of children already waited for) and resident memory of these processes."""
    cpu_ticks, pages = 0, 0
    for pid in pids:
        with contextlib.suppress(OSError):  # it ended meanwhile
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            cpu_ticks += sum(int(value) for value in fields[11:15])
            pages += int(fields[21])
    return Usage(cpu_ticks / _CLOCK_TICKS_PER_S, pages * _PAGE_BYTES)


def descendants(pid: int) -> list[int]:
    """The process and all its descendants."""
    found = [pid]
    for parent in found:  # grows while it is walked
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (thread / "children").read_bytes().split()]
    return found


def _feed(pipe: IO[bytes], pending: memoryview) -> memoryview:
    try:
        return pending[os.write(pipe.fileno(), pending[:_CHUNK_BYTES]) :]
    except BrokenPipeError:
        return pending[:0]
    except BlockingIOError:
        return pending


def _judge(watch: Watch, limits: Limits, elapsed_s: float) -> tuple[OutcomeStatus, str]:
    if elapsed_s > limits.wall_s:
        return "timeout", f"{elapsed_s:.0f} s on the clock"
    usage = watch.usage()
    if usage.cpu_s > limits.cpu_s:
        return "timeout", f"{usage.cpu_s:.1f} CPU-s"
    if watch.overrun is not None and (reason := watch.overrun(usage.cpu_s)):
        return "timeout", reason
    if usage.memory_bytes > limits.memory_mib * MIB:
        return "oom", f"{usage.memory_bytes // MIB} MiB of memory"
    if watch.is_disk_full():
        return "disk_limit", "too many files or bytes written"
    return "ok", ""
