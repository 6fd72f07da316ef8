"""The process of a Python program under test: loads it and answers calls of its function through a socket.

This file is sent into the program's sandbox as text and uses the standard library only. Nothing here is a secret and
nothing here decides anything: what comes out of this process is the program's own word.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from dft_eval.tasks.code.python_values import decode, encode, encode_briefly

_CHUNK_BYTES = 1 << 20
_LENGTH_BYTES = 4


def main() -> None:
    """Take the source, say that it was loaded, answer calls until the tester is gone."""
    sys.set_int_max_str_digits(0)
    channel = int(sys.argv[1])
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    try:
        _serve(channel)
    finally:
        os._exit(0)


def _serve(channel: int) -> None:
    source, entry_point = json.loads(_read_frame(channel))
    try:
        namespace: dict[str, Any] = {}
        exec(compile(source, "program.py", "exec", dont_inherit=True), namespace)
        function = namespace[entry_point]
    except BaseException as error:  # noqa: BLE001 - SystemExit is a failure too
        _write_frame(channel, _described(error))
        return
    _write_frame(channel, json.dumps(["ready"]))
    while message := _read_frame(channel):
        is_brief, told = json.loads(message)
        arguments = decode(told)
        started = time.process_time()
        try:
            answer = function(*arguments)
            seconds = time.process_time() - started
            line = json.dumps(["answer", encode_briefly(answer) if is_brief else encode(answer), seconds])
        except BaseException as error:  # noqa: BLE001
            line = _described(error)
        _write_frame(channel, line)


def _described(error: BaseException) -> str:
    name = type(error).__name__
    kind = "syntax" if isinstance(error, (SyntaxError, UnicodeError)) or "null bytes" in str(error) else "raised"
    kind = "oom" if isinstance(error, MemoryError) else kind
    try:
        return json.dumps(["failed", kind, f"{name}: {str(error)[:300]}"])
    except BaseException:  # noqa: BLE001 - the program's own exception class may do anything
        return json.dumps(["failed", kind, name])


def _read_frame(channel: int) -> bytes:
    """One message; empty where the tester is gone."""
    content = bytearray()
    size = _LENGTH_BYTES
    while len(content) < size:
        chunk = os.read(channel, min(size - len(content), _CHUNK_BYTES))
        if not chunk:
            return b""
        content += chunk
        if len(content) == _LENGTH_BYTES and size == _LENGTH_BYTES:
            size += int.from_bytes(content, "big")
    return bytes(content[_LENGTH_BYTES:])


def _write_frame(channel: int, line: str) -> None:
    content = line.encode()
    message = memoryview(len(content).to_bytes(_LENGTH_BYTES, "big") + content)
    while message:
        message = message[os.write(channel, message) :]
