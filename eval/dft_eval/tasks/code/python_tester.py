"""Tester of Python functions: runs in a sandbox of its own, the functions live in others.

It holds no program, only sockets to them: each task comes with one socket to the program's process and one to the
worker that asked. A process is forked for each task, so that what one program's replies do to it never reaches the
next. Replies are data: they are parsed as JSON of limited size into plain values, and a verdict is a word of
`python_channels.VERDICTS` that only this process says. This file is sent into the sandbox as text and uses the
standard library only.
"""

from __future__ import annotations

import ctypes
import math
import os
import resource
import select
import socket
import sys
from typing import Any

from dft_eval.tasks.code.python_channels import Program, ProgramError, Worker, write_frame
from dft_eval.tasks.code.python_comparison import is_close, is_floats, show
from dft_eval.tasks.code.python_values import decode, encode

_PR_SET_DUMPABLE = 4
_MEMORY_BYTES = 2 << 30


def run_tests(program: Program, task: dict[str, Any]) -> tuple[str, str]:
    """HumanEval: run the benchmark's test source against the function; returns the verdict."""
    namespace: dict[str, Any] = {}
    exec(compile(task["context"], "prompt.py", "exec"), namespace)

    def candidate(*arguments: Any) -> Any:
        return program.call(list(arguments))

    namespace[task["entry_point"]] = candidate
    try:
        exec(compile(task["tests"], "tests.py", "exec"), namespace)
        if task["check"]:
            namespace["check"](candidate)
    except ProgramError as error:
        return error.kind, str(error)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a failed assertion, or an answer no test expected
        return "wrong", f"{type(error).__name__}: {str(error)[:200]}"
    return "passed", ""


def run_cases(program: Program, task: dict[str, Any]) -> tuple[str, str]:
    """EvalPlus: call the function with every input and compare with the expected output; returns the verdict."""
    atol = task["atol"]
    for index, (arguments, expected, limit_s) in enumerate(
        zip(decode(task["inputs"]), decode(task["expected"]), task["limits_s"], strict=True)
    ):
        try:
            out = program.call(arguments, limit_s, is_brief=True)
            if task["entry_point"] == "find_zero":  # many right answers: a root, not the reference's root
                value = sum(coefficient * math.pow(out, power) for power, coefficient in enumerate(arguments[0]))
                is_right = abs(value) <= atol
            else:
                is_right = bool(out == expected)
                if atol == 0 and is_floats(expected):
                    atol = 1e-6  # and for the inputs after this one, as EvalPlus does
                if not is_right and atol != 0:
                    is_right = type(out) is type(expected) and is_close(out, expected, atol)
        except ProgramError as error:
            return error.kind, f"{error} (input {index})"
        except (Exception, SystemExit) as error:  # noqa: BLE001 - an answer that cannot be compared
            return "wrong", f"input {index}: {type(error).__name__}: {str(error)[:200]}"
        if not is_right:
            return "wrong", f"input {index}: {show(out)} instead of {show(expected)}"
    return "passed", ""


def record_outputs(program: Program, task: dict[str, Any]) -> dict[str, Any]:
    """The outputs of a solution known to be right, with the CPU seconds of each call."""
    outputs, seconds = [], []
    for arguments in decode(task["inputs"]):
        output, used_s = program.timed_call(arguments, math.inf, is_brief=True)
        outputs.append(encode(output))
        seconds.append(float(used_s))
    return {"outputs": ["list", outputs], "seconds": seconds}


def test_program(worker: Worker, program: Program) -> None:
    """Read the task, put the program through each of its parts and send the verdicts."""
    task = worker.read_task()
    resource.setrlimit(resource.RLIMIT_CPU, (task["cpu_s"], task["cpu_s"] + 1))
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))
    verdicts: dict[str, Any] = {}
    failure: tuple[str, str] | None = None
    try:
        program.start(task["program"], task["entry_point"])
    except ProgramError as error:
        failure = error.kind, str(error)
    for name, part in task["parts"].items():
        if failure is not None:
            verdicts[name] = failure  # what comes after a failure is not asked
        elif part["mode"] == "record":
            verdicts[name] = record_outputs(program, part)
        else:
            verdicts[name] = (run_tests if part["mode"] == "tests" else run_cases)(program, part)
            failure = None if verdicts[name][0] == "passed" else verdicts[name]
    worker.tell(verdicts)


def main() -> None:
    """Fork a tester for each task that comes, until the worker is gone; report one that died to the worker."""
    if ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError("prctl(PR_SET_DUMPABLE)")
    control = socket.socket(fileno=int(sys.argv[1]))
    testers: dict[int, tuple[int, int]] = {}  # by pidfd: process id and the socket to the worker
    while True:
        for ready in select.select([control.fileno(), *testers], [], [])[0]:
            if ready != control.fileno():
                _collect(*testers.pop(ready), ready)
                continue
            message, (*sockets,), _, _ = socket.recv_fds(control, 1, 2)
            if not message:
                return
            pid = os.fork()
            if pid == 0:
                control.close()
                for pidfd, (_, other) in testers.items():  # a task has no access to another's
                    os.close(pidfd)
                    os.close(other)
                _test_and_exit(*sockets)
            os.close(sockets[1])
            testers[os.pidfd_open(pid)] = pid, sockets[0]


def _test_and_exit(to_worker: int, to_program: int) -> None:
    code = 1
    try:
        worker = Worker(to_worker)
        test_program(worker, Program(to_program, worker))
        code = 0
    finally:
        os._exit(code)


def _collect(pid: int, to_worker: int, pidfd: int) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(pidfd)
    try:
        if code != 0:
            write_frame(to_worker, {"died": code})
    except OSError:
        pass  # the worker has gone
    finally:
        os.close(to_worker)
