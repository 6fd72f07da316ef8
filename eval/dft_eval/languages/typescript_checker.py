"""One compiler process that checks many TypeScript programs: reading the library files once saves most of the time.

It lives in a sandbox of its own, reads programs as text and runs none. Whatever goes wrong with it (a crash, or a
check that takes too long) ends it, and the program is left to a compiler of its own: a program can neither change
the verdict on another nor escape its own.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from dft_eval.languages.base import COMPILE_LIMITS, binary
from dft_eval.sandbox.choose import Sandbox
from dft_eval.sandbox.program import Command, Limits, Outcome

logger = logging.getLogger(__name__)

_PROGRAMS_PER_CHECKER = 500
_LIFETIME = Limits(cpu_s=1_000_000, wall_s=1_000_000, memory_mib=COMPILE_LIMITS.memory_mib)
_MAX_REPLY_BYTES = 64 << 20
_SOURCE = Path(__file__).with_suffix(".js")


@dataclass(frozen=True)
class Checked:
    """The compiler's result for one program.

    Attributes:
        errors: Its messages; a program with any is refused.
        translated: The JavaScript, where there are none.
    """

    errors: str
    translated: str


class CheckerLostError(RuntimeError):
    """The checker ended, by itself or by a limit, before it answered."""


class Checker:
    """A running checker. Not for two threads at once.

    Args:
        sandbox: Where it runs.
        compiler: `typescript.js` of the version wanted.
    """

    def __init__(self, sandbox: Sandbox, compiler: Path) -> None:
        self.num_programs = 0
        self._socket, theirs = socket.socketpair()
        self._outcome: Outcome | None = None
        self._asked_at: float | None = None
        self._cpu_s_before: float | None = None
        script = ("-e", _SOURCE.read_text(), str(compiler), str(theirs.fileno()))
        argv = (binary("node"), "--max-old-space-size=2048", *script)
        command = Command(argv, limits=_LIFETIME, descriptors=(theirs.fileno(),), overrun=self._overrun)

        def live() -> None:
            with theirs:
                self._outcome = sandbox.run(command)

        # a daemon: nothing waits for it at exit, and the sandbox ends with the process that started it
        self._thread = threading.Thread(target=live, daemon=True, name="typescript-checker")
        self._thread.start()

    def check(self, source: bytes, mode: str) -> Checked:
        """Check and translate one program.

        Args:
            source: The program.
            mode: `es2015`, or `defaults` for the compiler's own.

        Raises:
            CheckerLostError: no answer came; start another one.
        """
        self.num_programs += 1
        self._cpu_s_before, self._asked_at = None, time.monotonic()
        try:
            self._socket.sendall(b"%d %s\n" % (len(source), mode.encode()) + source)
            size = int(self._receive_line())
            if size > _MAX_REPLY_BYTES:
                raise ValueError(f"a reply of {size} bytes")
            reply = json.loads(self._receive(size))
            return Checked(str(reply["errors"]), str(reply["translated"]))
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            self.close()
            raise CheckerLostError(f"{error}; {_described(self._outcome)}") from error
        finally:
            self._asked_at = None

    def close(self) -> None:
        """End it and wait for its end; harmless when it has ended."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _overrun(self, cpu_s: float) -> str:
        asked_at = self._asked_at
        if asked_at is None:
            return ""
        if time.monotonic() - asked_at > COMPILE_LIMITS.wall_s:
            return f"{COMPILE_LIMITS.wall_s:g} s on the clock for one check"
        if self._cpu_s_before is None:
            self._cpu_s_before = cpu_s
        used_s = cpu_s - self._cpu_s_before
        return f"{used_s:.1f} CPU-s for one check" if used_s > COMPILE_LIMITS.cpu_s else ""

    def _receive_line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            line += self._receive(1)
            if len(line) > 20:
                raise ValueError("no size came first")
        return line

    def _receive(self, size: int) -> bytes:
        content = bytearray()
        while len(content) < size:
            chunk = self._socket.recv(min(size - len(content), 1 << 20))
            if not chunk:
                raise EOFError("the checker ended")
            content += chunk
        return bytes(content)


def _described(outcome: Outcome | None) -> str:
    if outcome is None:
        return "its sandbox failed"
    return f"{outcome.status} {outcome.reason} {outcome.stderr[-300:].decode(errors='replace')}"


_checkers: dict[tuple[int, str], Checker] = {}  # by process and sandbox: a fork must not share one
_lock = threading.Lock()


def check_program(sandbox: Sandbox, compiler: Path, source: bytes, mode: str) -> Checked | None:
    """Check a program with this process's checker; None where it found no answer and the checker was ended.

    Args:
        sandbox: Where the checker runs.
        compiler: `typescript.js` of the version wanted.
        source: The program.
        mode: `es2015` or `defaults`.
    """
    key = (os.getpid(), sandbox.name)
    with _lock:
        checker = _checkers.pop(key, None) or Checker(sandbox, compiler)
        try:
            checked = checker.check(source, mode)
        except CheckerLostError as error:
            logger.warning("the TypeScript checker was ended, another will be started: %s", error)
            return None
        if checker.num_programs < _PROGRAMS_PER_CHECKER:
            _checkers[key] = checker
        else:
            checker.close()
        return checked


def close_checkers() -> None:
    """End the checkers of this process; the next program starts another."""
    with _lock:
        for pid, name in list(_checkers):
            checker = _checkers.pop((pid, name))
            if pid == os.getpid():
                checker.close()


atexit.register(close_checkers)
