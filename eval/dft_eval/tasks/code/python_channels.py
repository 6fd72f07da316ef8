"""Sockets of a tester: one to the program, one to the worker that asked.

Replies of a program are data: JSON of limited size, parsed into plain values. Sent into the tester's sandbox as text.
"""

from __future__ import annotations

import json
import math
import os
import select
from typing import Any

from dft_eval.tasks.code.python_values import decode, encode

VERDICTS = ("passed", "wrong", "raised", "syntax", "timeout", "oom", "ended")
"""Words for a program's end; `ended`: its process ended, the worker knows why."""

_SAID_BY_PROGRAMS = ("raised", "syntax", "oom")
_CHUNK_BYTES = 1 << 20
_LENGTH_BYTES = 4
_MAX_REPLY_BYTES = 64 << 20
_LOOK_EVERY_S = 0.05
_FOREIGN = "a message its tester does not know"


class ProgramError(Exception):
    """The function under test raised, or answered nothing.

    Args:
        text: A line for people.
        kind: One of `VERDICTS`.
    """

    def __init__(self, text: str, kind: str = "raised") -> None:
        super().__init__(text[:300])
        self.kind = kind


class Worker:
    """The worker that asked for a verdict.

    Args:
        fd: The socket to it.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read_task(self) -> dict[str, Any]:
        """Read the task: the program to test, and its parts."""
        return dict(json.loads(self._read_frame()))

    def program_cpu_s(self) -> float:
        """CPU seconds of all processes of the program, not older than this call."""
        write_frame(self._fd, {"asked": "cpu_s"})
        return float(json.loads(self._read_frame()))

    def tell(self, verdicts: dict[str, Any]) -> None:
        """Send the verdicts, the last message."""
        write_frame(self._fd, {"verdicts": verdicts})

    def _read_frame(self) -> bytes:
        size = int.from_bytes(self._exactly(_LENGTH_BYTES), "big")
        return self._exactly(size)

    def _exactly(self, count: int) -> bytes:
        content = bytearray()
        while len(content) < count:
            chunk = os.read(self._fd, min(count - len(content), _CHUNK_BYTES))
            if not chunk:
                os._exit(0)  # nobody waits for the verdict any more
            content += chunk
        return bytes(content)


class Program:
    """The process of the function under test, as its replies show it.

    Args:
        fd: The socket to it.
        worker: Gives its CPU time.
    """

    def __init__(self, fd: int, worker: Worker) -> None:
        self._fd, self._worker = fd, worker

    def start(self, source: str, entry_point: str) -> None:
        """Have the source run.

        Raises:
            ProgramError: it failed.
        """
        self._send([source, entry_point])
        if self._receive(math.inf) != ["ready"]:
            raise ProgramError(_FOREIGN)

    def call(self, arguments: Any, cpu_limit_s: float = math.inf, *, is_brief: bool = False) -> Any:
        """The function's answer; where `is_brief`, a long text as a `LongText`.

        Raises:
            ProgramError: it raised, ended or took longer than `cpu_limit_s`.
        """
        return self.timed_call(arguments, cpu_limit_s, is_brief=is_brief)[0]

    def timed_call(self, arguments: Any, cpu_limit_s: float, *, is_brief: bool) -> tuple[Any, Any]:
        """The function's answer and, by the program's own word, its CPU seconds.

        Raises:
            ProgramError: it raised, ended or took longer than `cpu_limit_s`.
        """
        self._send([is_brief, encode(arguments)])
        reply = self._receive(cpu_limit_s)
        if len(reply) != 3 or reply[0] != "answer":
            raise ProgramError(_FOREIGN)
        try:
            return decode(reply[1]), reply[2]
        except MemoryError as error:
            raise ProgramError("its answer fills the tester's memory", "oom") from error
        except Exception as error:
            raise ProgramError(f"{type(error).__name__}: {error}") from error

    def _send(self, value: Any) -> None:
        try:
            write_frame(self._fd, value)
        except OSError as error:
            raise ProgramError("the program's process ended", "ended") from error

    def _receive(self, cpu_limit_s: float) -> list[Any]:
        unread, size, cpu_s_before = bytearray(), _LENGTH_BYTES, None
        while len(unread) < size:
            if select.select([self._fd], [], [], _LOOK_EVERY_S if cpu_limit_s < math.inf else None)[0]:
                unread += self._read(min(size - len(unread), _CHUNK_BYTES))
                if size == _LENGTH_BYTES == len(unread):
                    size += int.from_bytes(unread, "big")
                    if size > _MAX_REPLY_BYTES:
                        raise ProgramError(f"an answer of {size} bytes, or {_FOREIGN}")
                continue
            cpu_s = self._worker.program_cpu_s()
            cpu_s_before = cpu_s if cpu_s_before is None else cpu_s_before
            if cpu_s - cpu_s_before > cpu_limit_s:
                raise ProgramError(f"more than {cpu_limit_s:.1f} CPU-s for one call", "timeout")
        return _read_reply(bytes(unread[_LENGTH_BYTES:]))

    def _read(self, num_bytes: int) -> bytes:
        try:
            chunk = os.read(self._fd, num_bytes)
        except OSError:
            chunk = b""
        if not chunk:
            raise ProgramError("the program's process ended", "ended")
        return chunk


def _read_reply(content: bytes) -> list[Any]:
    """A message of the program, which may have written anything."""
    try:
        reply = json.loads(content)
    except MemoryError as error:
        raise ProgramError("its answer fills the tester's memory", "oom") from error
    except (ValueError, RecursionError) as error:  # also an integer of too many decimal digits
        raise ProgramError(_FOREIGN) from error
    if not isinstance(reply, list):
        raise ProgramError(_FOREIGN)
    if reply[:1] == ["failed"]:
        kind, text = (*reply[1:], "", "")[:2]
        raise ProgramError(str(text), kind if kind in _SAID_BY_PROGRAMS else "raised")
    return reply


def write_frame(fd: int, value: Any) -> None:
    """Write one message, its length first."""
    content = json.dumps(value).encode()
    message = memoryview(len(content).to_bytes(_LENGTH_BYTES, "big") + content)
    while message:
        message = message[os.write(fd, message) :]
