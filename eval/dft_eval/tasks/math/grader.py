"""Asking the grading processes: persistent, killed and replaced when a pair exceeds its limits, usable from threads."""

from __future__ import annotations

import contextlib
import json
import selectors
import signal
import subprocess
import sys
import threading
import time
from importlib import metadata
from typing import Any

from dft_eval.tasks.math.golds import GOLDS_VERSION
from dft_eval.tasks.math.qwen_compat import QWEN_RULES_VERSION
from dft_eval.tasks.math.worker import CPU_LIMIT_S, MAX_ANSWER_CHARACTERS, MEMORY_LIMIT_BYTES, Rules

WALL_LIMIT_S = 60.0
START_LIMIT_S = 600.0
_LIBRARIES = ("math-verify", "sympy", "latex2sympy2-extended", "antlr4-python3-runtime")
_START = "import sys; sys.path[:] = {path!r}; from dft_eval.tasks.math.worker import main; main()"

_idle: list[_Worker] = []
_lock = threading.Lock()


class GraderError(OSError):
    """Grading went wrong because of us or of the machine; never the answer's fault."""


def grade_response(gold: str, response: str, rules: Rules = "math_verify") -> dict[str, Any]:
    r"""Grade one response against a reference.

    Args:
        gold: Normalised LaTeX; for Qwen's rules as its file spells it.
        response: All a model wrote.
        rules: By which.

    Returns:
        `status` (`ok`, `wrong`, `no_answer`, `timeout`, `oom`, `runtime_error`), `has_box`, `answer`, `message`.

    Raises:
        GraderError: no process could be had, or it was killed by something else than its own limits.
    """
    with _lock:
        worker = _idle.pop() if _idle else None
    if worker is None:
        worker = _Worker()
    is_good = False
    try:
        result = worker.ask({"gold": gold, "response": response, "rules": rules})
        is_good = worker.is_alive
    finally:
        if is_good:
            with _lock:
                _idle.append(worker)
        else:
            worker.end()
    if "error" in result:
        raise GraderError(f"the grader failed: {result['error']}")
    return result


def describe_grader(rules: Rules = "math_verify") -> dict[str, str]:
    """The versions a verdict depends on, and the limits."""
    versions = {name: metadata.version(name) for name in _LIBRARIES}
    limits = f"{CPU_LIMIT_S:g} s CPU, {MEMORY_LIMIT_BYTES >> 30} GiB, {MAX_ANSWER_CHARACTERS} characters"
    grader = f"math-verify with gold normaliser {GOLDS_VERSION}, small numbers by relative error"
    if rules != "math_verify":
        units = "kept" if rules == "qwen_compat_with_units" else "taken out"
        grader = f"qwen_compat {QWEN_RULES_VERSION}: rules of the Qwen2.5-Math evaluation, written anew, units {units}"
        del versions["math-verify"]
    return {"grader": grader, **versions, "limits": limits}


def close_graders() -> None:
    """End the processes that wait for the next pair; the next one starts another."""
    with _lock:
        workers, _idle[:] = _idle[:], []
    for worker in workers:
        worker.end()


def is_installed() -> bool:
    """Return True where all libraries of the grader are installed."""
    try:
        describe_grader()
    except metadata.PackageNotFoundError:
        return False
    return True


class _Worker:
    """One grading process."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", _START.format(path=sys.path)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        if self._read(START_LIMIT_S) != {"is_ready": True}:
            self.end()
            raise GraderError("the grading process did not start; see: dft eval list")

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, request: dict[str, str]) -> dict[str, Any]:
        """A verdict, or the status that stands for the way the process ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise GraderError("the grading process ended before it was asked") from error
        result = self._read(WALL_LIMIT_S)
        if result is not None:
            return result
        code = self._process.poll()
        if code is None:
            raise GraderError(f"no verdict within {WALL_LIMIT_S:g} s of wall time: the machine is too busy")
        blank: dict[str, Any] = {"has_box": "\\boxed" in request["response"], "answer": ""}
        if code == -signal.SIGPROF:
            return blank | {"status": "timeout", "message": f"more than {CPU_LIMIT_S:g} s of CPU time"}
        if code in (-signal.SIGSEGV, -signal.SIGABRT):
            return blank | {"status": "runtime_error", "message": "comparing it crashed the grader"}
        raise GraderError(f"the grading process was ended from outside, exit code {code}")

    def end(self) -> None:
        """Kill it, and free what it held."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _read(self, limit_s: float) -> dict[str, Any] | None:
        """One line; None where the process ended without it, or the time is over."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + limit_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return None
        line = self._process.stdout.readline()  # a verdict is written at once, and is short
        if line:
            result: dict[str, Any] = json.loads(line)
            return result
        self._process.wait()
        return None
