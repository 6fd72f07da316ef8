"""The tester of Python programs of this process, in a sandbox of its own, and one program's way through it."""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import socket
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import Any

from dft_eval.languages.base import binary
from dft_eval.sandbox.choose import Sandbox
from dft_eval.sandbox.program import Command, Limits, Outcome
from dft_eval.sandbox.resident import Resident

_FOLDER = Path(__file__).parent
_PACKAGE = "dft_eval.tasks.code"
_LIFETIME = Limits(cpu_s=1_000_000, wall_s=1_000_000, memory_mib=1_000_000)
_MAX_FRAME_BYTES = 256 << 20
_PROCESS_LOOKS_PER_TASK = 2


class TesterLostError(RuntimeError):
    """The tester ended before it replied; that is never the program's fault."""


class TesterDiedError(RuntimeError):
    """The process that tested one program ended without a verdict.

    Args:
        code: Its return code; minus the signal's number.
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"the tester's process ended with {code}")
        self.code = code


class _Clock:
    """The program's CPU time, as its supervisor looks at it ten times a second."""

    def __init__(self) -> None:
        self._looked = threading.Condition()
        self._num_looks, self._cpu_s = 0, 0.0
        self._is_over = False

    def look(self, cpu_s: float) -> str:
        """Take a measurement; never a reason to end the program."""
        with self._looked:
            self._num_looks, self._cpu_s = self._num_looks + 1, cpu_s
            self._looked.notify_all()
        return ""

    def end(self) -> None:
        """Say that no measurement follows."""
        with self._looked:
            self._is_over = True
            self._looked.notify_all()

    def next_cpu_s(self) -> float:
        """The first measurement that began after this call; the last one where the program has ended."""
        with self._looked:
            wanted = self._num_looks + _PROCESS_LOOKS_PER_TASK  # the next look may have begun before
            self._looked.wait_for(lambda: self._is_over or self._num_looks >= wanted)
            return self._cpu_s


@cache
def script(*modules: str) -> str:
    """One Python source that holds these modules under their full names and runs `main` of the last."""
    lines = ["import sys, types"]
    for name in modules:
        source = (_FOLDER / f"{name}.py").read_text()
        lines.append(f"module = sys.modules['{_PACKAGE}.{name}'] = types.ModuleType('{_PACKAGE}.{name}')")
        lines.append(f"exec(compile({source!r}, {name!r} + '.py', 'exec'), module.__dict__)")
    return "\n".join([*lines, "module.main()"])


def ask(
    sandbox: Sandbox, program: str, entry_point: str, parts: Mapping[str, Mapping[str, Any]], limits: Limits
) -> tuple[dict[str, Any], Future[Outcome]]:
    """Put a program through its parts.

    Args:
        sandbox: Where the program runs, and in another one the tester.
        program: Complete source.
        entry_point: The function's name.
        parts: Input of the tester, by name.
        limits: Of the program.

    Returns:
        The tester's reply to each part, and the outcome of the program's sandbox, which is being ended.

    Raises:
        TesterLostError: there is no tester.
        TesterDiedError: the tests of this very program ended it.
    """
    mine, to_worker = socket.socketpair()
    to_program, to_tester = socket.socketpair()
    is_needed, needs = os.pipe()
    clock, ended = _Clock(), Future[Outcome]()
    argv = (binary("python3"), "-I", "-c", script("python_values", "python_server"), str(to_tester.fileno()))
    command = Command(argv, limits=limits, descriptors=(to_tester.fileno(),), until=is_needed, overrun=clock.look)

    def run() -> None:
        try:
            ended.set_result(sandbox.run(command))
        except BaseException as error:  # noqa: BLE001 - raised again where the outcome is asked for
            ended.set_exception(error)
        finally:
            to_tester.close()
            os.close(is_needed)
            clock.end()

    with contextlib.ExitStack() as resources:
        resources.callback(os.close, needs)
        resources.enter_context(mine)
        with to_worker, to_program:
            thread = threading.Thread(target=run, name="program")
            thread.start()  # first: it takes longer than the tester's fork
            _hand_over(sandbox, to_worker.fileno(), to_program.fileno())
        task = {"program": program, "entry_point": entry_point, "cpu_s": math.ceil(limits.cpu_s)}
        _write_frame(mine, task | {"parts": {name: dict(part) for name, part in parts.items()}})
        return _verdicts(mine, clock), ended


def _verdicts(mine: socket.socket, clock: _Clock) -> dict[str, Any]:
    while True:
        told = _read_frame(mine)
        if "verdicts" in told:
            return dict(told["verdicts"])
        if "died" in told:
            raise TesterDiedError(int(told["died"]))
        _write_frame(mine, clock.next_cpu_s())


def _write_frame(to_tester: socket.socket, value: object) -> None:
    content = json.dumps(value).encode()
    try:
        to_tester.sendall(len(content).to_bytes(4, "big") + content)
    except OSError as error:
        raise TesterLostError(str(error)) from error


def _read_frame(from_tester: socket.socket) -> dict[str, Any]:
    size = int.from_bytes(_exactly(from_tester, 4), "big")
    if size > _MAX_FRAME_BYTES:
        raise TesterLostError(f"a frame of {size} bytes")
    told = json.loads(_exactly(from_tester, size))
    if not isinstance(told, dict):
        raise TesterLostError("a frame of another kind")
    return told


def _exactly(from_tester: socket.socket, size: int) -> bytes:
    content = bytearray()
    while len(content) < size:
        try:
            chunk = from_tester.recv(min(size - len(content), 1 << 20))
        except OSError as error:
            raise TesterLostError(str(error)) from error
        if not chunk:
            raise TesterLostError("it ended")
        content += chunk
    return bytes(content)


_testers: dict[tuple[int, str], Resident] = {}  # by process and sandbox: a fork must not share one
_lock = threading.Lock()


def _hand_over(sandbox: Sandbox, *descriptors: int) -> None:
    """Give a task's sockets to this process's tester; where it was lost, to a new one."""
    key = (os.getpid(), sandbox.name)
    with _lock:
        for is_last in (False, True):
            tester = _testers.get(key)
            if tester is None or not tester.is_running:
                tester = _testers[key] = _start_tester(sandbox)
            try:
                socket.send_fds(tester.socket, [b"task"], list(descriptors))
                return
            except OSError as error:
                tester.close()
                del _testers[key]
                if is_last:
                    raise TesterLostError(f"{error}; {tester.described()}") from error


def _start_tester(sandbox: Sandbox) -> Resident:
    source = script("python_values", "python_comparison", "python_channels", "python_tester")

    def command(fd: int) -> Command:
        argv = (binary("python3"), "-I", "-c", source, str(fd))
        return Command(argv, limits=_LIFETIME, descriptors=(fd,))

    return Resident(sandbox, command, socket.SOCK_SEQPACKET)


def close_testers() -> None:
    """End the testers of this process; the next program starts another."""
    with _lock:
        for pid, name in list(_testers):
            tester = _testers.pop((pid, name))
            if pid == os.getpid():
                tester.close()


atexit.register(close_testers)
