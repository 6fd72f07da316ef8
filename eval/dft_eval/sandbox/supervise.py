"""Feeds a running sandbox, collects what it prints and ends it where it goes over a limit."""

from __future__ import annotations

import math
import os
import selectors
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

from dft_eval.sandbox.program import MIB, Limits, Outcome, OutcomeStatus
from dft_eval.sandbox.usage import Usage, with_cpu_s

KEPT_OUTPUT_BYTES = MIB
"""Most bytes kept of each stream: the first half and the last half."""

_TICK_S = 0.1
_GRACE_S = 2.0
_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True)
class Watch:
    """Questions and actions of the supervisor while a program runs.

    Attributes:
        usage: Measures all its processes.
        is_disk_full: Whether a writable folder holds more files or bytes than allowed.
        kill: Ends all its processes; harmless when they are gone.
        until: A descriptor whose other end is closed when nobody needs the program any more.
        overrun: Why it has to end after so many CPU seconds; empty where it has not.
    """

    usage: Callable[[], Usage]
    is_disk_full: Callable[[], bool]
    kill: Callable[[], None]
    until: int | None = None
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
    supervision = _Supervision(process, stdin, limits, watch, kept_bytes)
    try:
        supervision.run()
    finally:
        supervision.close()
    _, wait_status, used = os.wait4(process.pid, 0)
    returncode = os.waitstatus_to_exitcode(wait_status)
    process.returncode = returncode  # this module waited, not Popen
    stdout, stderr = supervision.output()
    outcome = Outcome(
        supervision.ended_by,
        128 - returncode if returncode < 0 else returncode,
        stdout,
        stderr,
        cpu_s=0.0,
        wall_s=time.monotonic() - supervision.started,
        reason=supervision.reason,
    )
    return with_cpu_s(outcome, max(supervision.cpu_s, used.ru_utime + used.ru_stime), limits)


class _Supervision:
    """One process's pipes and limits; nothing here waits for the program: every read and write is non-blocking.

    A program can take its own output out of the pipe between a poll and a read, or hand the pipe to a process that
    never ends: after the end of the program, what has not come within a short time does not come.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], stdin: bytes, limits: Limits, watch: Watch, kept_bytes: int
    ) -> None:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        self.started = time.monotonic()
        self.ended_by: OutcomeStatus = "ok"
        self.reason = ""
        self.cpu_s = 0.0
        self._limits, self._watch = limits, watch
        self._stdin, self._pending = process.stdin, memoryview(stdin)
        self._kept = {process.stdout: _Kept(kept_bytes), process.stderr: _Kept(kept_bytes)}
        self._give_up_at = math.inf
        self._pidfd = os.pidfd_open(process.pid)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pidfd, selectors.EVENT_READ, self._on_end)
        if watch.until is not None:
            self._selector.register(watch.until, selectors.EVENT_READ, self._on_needless)
        for stream, kept in self._kept.items():
            os.set_blocking(stream.fileno(), False)
            self._selector.register(stream, selectors.EVENT_READ, partial(self._on_output, stream, kept))
        if self._pending:
            os.set_blocking(process.stdin.fileno(), False)
            self._selector.register(process.stdin, selectors.EVENT_WRITE, self._on_room)
        else:
            process.stdin.close()

    def run(self) -> None:
        """Read, write and look at the clock until the process has ended and its pipes are empty."""
        next_look = self.started + _TICK_S
        while self._is_watched(self._pidfd) or any(map(self._is_watched, self._kept)):
            for key, _ in self._selector.select(_TICK_S):
                if self._is_watched(key.fileobj):  # not removed in this very round
                    key.data()
            now = time.monotonic()
            if now > self._give_up_at and not self._is_watched(self._pidfd):
                return
            if self.ended_by == "ok" and now >= next_look and self._is_watched(self._pidfd):
                next_look = now + _TICK_S
                usage = self._watch.usage()
                self.cpu_s = max(self.cpu_s, usage.cpu_s)
                self._end(*_limit_reached(usage, self._watch, self._limits, now - self.started))

    def output(self) -> tuple[bytes, bytes]:
        """Return the parts of stdout and stderr that were kept."""
        out, err = (kept.content() for kept in self._kept.values())
        return out, err

    def close(self) -> None:
        """Close every descriptor."""
        self._selector.close()
        os.close(self._pidfd)
        for stream in (self._stdin, *self._kept):
            stream.close()

    def _is_watched(self, file: Any) -> bool:
        is_closed = not isinstance(file, int) and file.closed
        return not is_closed and file in self._selector.get_map()

    def _forget(self, file: IO[bytes]) -> None:
        if self._is_watched(file):
            self._selector.unregister(file)
        file.close()

    def _end(self, status: OutcomeStatus, reason: str) -> None:
        if status != "ok":
            self.ended_by, self.reason = status, reason
            self._watch.kill()

    def _on_end(self) -> None:
        self._selector.unregister(self._pidfd)
        self._forget(self._stdin)
        self._watch.kill()  # whatever outlived the program holds the pipes open
        self._give_up_at = time.monotonic() + _GRACE_S

    def _on_needless(self) -> None:
        assert self._watch.until is not None
        self._selector.unregister(self._watch.until)
        self._watch.kill()

    def _on_room(self) -> None:
        self._pending = _feed(self._stdin, self._pending)
        if not self._pending:
            self._forget(self._stdin)

    def _on_output(self, stream: IO[bytes], kept: _Kept) -> None:
        try:
            chunk = os.read(stream.fileno(), _CHUNK_BYTES)
        except BlockingIOError:
            return  # the program took it back
        if not chunk:
            self._forget(stream)
            return
        kept.add(chunk)
        written = sum(each.num_bytes for each in self._kept.values())
        if self.ended_by == "ok" and written > self._limits.output_mib * MIB:
            self._end("output_limit", f"more than {self._limits.output_mib} MiB of output")


def _feed(pipe: IO[bytes], pending: memoryview) -> memoryview:
    try:
        return pending[os.write(pipe.fileno(), pending[:_CHUNK_BYTES]) :]
    except BrokenPipeError:
        return pending[:0]
    except BlockingIOError:
        return pending


def _limit_reached(usage: Usage, watch: Watch, limits: Limits, elapsed_s: float) -> tuple[OutcomeStatus, str]:
    if elapsed_s > limits.wall_s:
        return "timeout", f"{elapsed_s:.0f} s on the clock"
    if usage.cpu_s > limits.cpu_s:
        return "timeout", f"{usage.cpu_s:.1f} CPU-s"
    if watch.overrun is not None and (reason := watch.overrun(usage.cpu_s)):
        return "timeout", reason
    if usage.memory_bytes > limits.memory_mib * MIB:
        return "oom", f"{usage.memory_bytes // MIB} MiB of memory"
    if watch.is_disk_full():
        return "disk_limit", "too many files or bytes written"
    return "ok", ""
