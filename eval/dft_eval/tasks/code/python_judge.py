"""Runs inside the sandbox: tests a Python function that lives in another process.

The program under test and its judge share nothing but a pipe of plain values. The judge forks the program's
process first and only then reads the tests and the nonce, so neither is ever in that process's memory; frames,
early exits, printed sentinels and objects with a lenient `__eq__` have nothing to work on. This file is sent into
the sandbox as text and uses the standard library only.
"""

from __future__ import annotations

import collections.abc
import ctypes
import decimal
import fractions
import json
import math
import os
import select
import signal
import sys
import time
from typing import Any

_PR_SET_DUMPABLE = 4
_MAX_DEPTH = 200
_CHUNK_BYTES = 1 << 20
_MAX_DECIMAL_BITS = 1024
_MAX_TEXT_CHARACTERS = 1 << 16
_PLAIN = (bool, int, float, str, type(None))


class Opaque:
    """Something that is no plain value; equal to nothing."""


class LongText:
    """A text by its digest: 150 MB need not travel to be compared."""

    def __init__(self, num_characters: int, sha256: str) -> None:
        self.num_characters, self.sha256 = num_characters, sha256

    def __eq__(self, other: object) -> bool:
        return type(other) is LongText and (self.num_characters, self.sha256) == (other.num_characters, other.sha256)

    __hash__ = None  # type: ignore[assignment]


class SubInt(int):
    """An integer of another type than int, for example NumPy's."""


class SubFloat(float):
    """A float of another type than float."""


class SubStr(str):
    """A string of another type than str."""


class SubList(list):  # type: ignore[type-arg]
    """A list of another type than list."""


class SubTuple(tuple):  # type: ignore[type-arg]
    """A tuple of another type than tuple."""


class SubDict(dict):  # type: ignore[type-arg]
    """A dictionary of another type than dict."""


class SubSet(set):  # type: ignore[type-arg]
    """A set of another type than set."""


FAILURES = ("raised", "syntax", "oom")
"""What a program's process may say went wrong; whether it passes is not its to say."""


class ProgramError(Exception):
    """The function under test raised, or answered nothing.

    Args:
        text: A line for people.
        kind: One of `FAILURES`.
    """

    def __init__(self, text: str, kind: str = "raised") -> None:
        super().__init__(text)
        self.kind = kind


class ProgramTimeoutError(Exception):
    """The function under test used up its time for one call."""


def encode(value: Any, depth: int = 0) -> Any:
    """A value as JSON; what is no plain value becomes opaque."""
    kind = type(value)
    if depth > _MAX_DEPTH:
        return ["opaque"]
    if kind is int and value.bit_length() > _MAX_DECIMAL_BITS:
        return ["hex", f"{value:x}"]  # decimal digits of a huge integer take quadratic time
    if kind in _PLAIN:
        return value
    if isinstance(value, complex):
        return ["complex", value.real, value.imag]
    if isinstance(value, (bytes, bytearray)):
        return ["bytes", list(value)]
    if isinstance(value, decimal.Decimal):
        return ["decimal", str(value)]
    if isinstance(value, fractions.Fraction):
        return ["fraction", value.numerator, value.denominator]
    base: Any
    sequence: Any
    for base, name in ((int, "int"), (float, "float"), (str, "str")):
        if isinstance(value, base):
            return [f"sub{name}", encode(base.__add__(value, base()))]  # not what the type itself says it is
    if kind.__module__ == "numpy" and getattr(value, "shape", None) == ():
        item = value.item()
        return item if isinstance(item, bool) else _sub(item)
    for sequence, name in ((list, "list"), (tuple, "tuple")):
        if isinstance(value, sequence):
            prefix = "" if kind is sequence else "sub"
            return [prefix + name, [encode(item, depth + 1) for item in sequence.__iter__(value)]]
    if isinstance(value, dict):
        items = [[encode(key, depth + 1), encode(item, depth + 1)] for key, item in dict.items(value)]
        return ["dict" if kind is dict else "subdict", items]
    if isinstance(value, collections.abc.Set):
        return ["set" if kind in (set, frozenset) else "subset", [encode(item, depth + 1) for item in value]]
    return ["text", value.num_characters, value.sha256] if isinstance(value, LongText) else ["opaque"]


def encode_briefly(value: Any) -> Any:
    """Like `encode`, but a long text becomes its digest.

    The function's process may claim any digest, as it may claim any text: it does not know the right one.
    """
    import hashlib  # few programs need it

    if not isinstance(value, str) or str.__len__(value) <= _MAX_TEXT_CHARACTERS:
        return encode(value)
    content = str.encode(value, "utf-8", "surrogatepass")
    return ["text", str.__len__(value), hashlib.sha256(content).hexdigest()]


def _sub(item: Any) -> Any:
    return [f"sub{type(item).__name__}", encode(item)] if type(item) in (int, float, str) else ["opaque"]


def decode(value: Any) -> Any:
    """The value `encode` was given, or raises for anything `encode` does not write."""
    if not isinstance(value, list):
        return value
    kind, *content = value
    if kind in _SCALARS:
        return _SCALARS[kind](*map(decode, content))
    if kind == "bytes":
        return bytes(content[0])
    if kind in _COLLECTIONS:
        return _COLLECTIONS[kind](decode(item) for item in content[0])
    if kind in ("dict", "subdict"):
        pairs = {decode(key): decode(item) for key, item in content[0]}
        return pairs if kind == "dict" else SubDict(pairs)
    if kind == "opaque":
        return Opaque()
    raise ValueError(f"kind {kind!r}")


_SCALARS: dict[str, Any] = {
    "hex": lambda digits: int(digits, 16),
    "text": LongText,
    "complex": complex,
    "decimal": decimal.Decimal,
    "fraction": fractions.Fraction,
    "subint": SubInt,
    "subfloat": SubFloat,
    "substr": SubStr,
}
_COLLECTIONS: dict[str, Any] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "sublist": SubList,
    "subtuple": SubTuple,
    "subset": SubSet,
}


def show(value: Any) -> str:
    """A value for people, short and in short time."""
    if isinstance(value, int) and value.bit_length() > _MAX_DECIMAL_BITS:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, LongText):
        return f"a text of {value.num_characters} characters"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__} of {len(value)}: " + ", ".join(show(item) for item in value[:5])[:80]
    return repr(value)[:80] if isinstance(value, (bool, int, float, str)) else type(value).__name__


def is_close(out: Any, expected: Any, atol: float) -> bool:
    """`numpy.allclose(out, expected, rtol=1e-07, atol=atol)` for numbers and nested sequences of one shape."""
    if isinstance(expected, (list, tuple)):
        return (
            isinstance(out, (list, tuple))
            and len(out) == len(expected)
            and all(is_close(one, other, atol) for one, other in zip(out, expected, strict=True))
        )
    if not isinstance(out, (int, float)) or not isinstance(expected, (int, float)):
        raise TypeError(f"no numbers: {type(out).__name__} and {type(expected).__name__}")
    return bool(out == expected or abs(out - expected) <= atol + 1e-07 * abs(expected) < math.inf)


def is_floats(value: Any) -> bool:
    """Whether EvalPlus compares with a tolerance: a float, or a non-empty sequence of floats."""
    if isinstance(value, (list, tuple)):
        return bool(value) and all(isinstance(item, float) for item in value)
    return isinstance(value, float)


class Program:
    """The process of the function under test, and the pipe to it."""

    def __init__(self, source: str, entry_point: str) -> None:
        calls_out, calls_in = os.pipe()
        replies_out, replies_in = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(calls_in)
            os.close(replies_out)
            _serve(source, entry_point, calls_out, replies_in)
        os.close(calls_out)
        os.close(replies_in)
        self._calls, self._replies, self._unread = calls_in, replies_out, bytearray()
        self._clock = ((~self._pid) << 3) | 2  # the kernel's name of another process's CPU clock

    def start(self) -> None:
        """Wait until the source has run.

        Raises:
            ProgramError: it failed.
        """
        if self._receive(math.inf) != ["ready"]:
            raise ProgramError("the program wrote into its judge's pipe")

    def call(self, arguments: Any, cpu_limit_s: float = math.inf, *, is_brief: bool = False) -> Any:
        """The function's answer; where `is_brief`, a long text as a `LongText`.

        Raises:
            ProgramError: it raised or ended.
            ProgramTimeoutError: it took longer than `cpu_limit_s`.
        """
        try:
            _write(self._calls, [is_brief, encode(arguments)])
            reply = self._receive(cpu_limit_s)
            if len(reply) != 2 or reply[0] != "answer":
                raise ProgramError("the program wrote into its judge's pipe")
            return decode(reply[1])
        except (BrokenPipeError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
            raise ProgramError(f"{type(error).__name__}: {error}"[:300]) from error

    def _receive(self, cpu_limit_s: float) -> list[Any]:
        started = self._cpu_s()
        began = time.monotonic()
        while not self._unread.endswith(b"\n"):
            ready, _, _ = select.select([self._replies], [], [], 0.05)
            if ready:
                chunk = os.read(self._replies, _CHUNK_BYTES)
                if not chunk:
                    raise ProgramError("the program's process ended")
                self._unread += chunk
            elif self._cpu_s() - started > cpu_limit_s or time.monotonic() - began > 10 * cpu_limit_s:
                os.kill(self._pid, signal.SIGKILL)
                raise ProgramTimeoutError(f"more than {cpu_limit_s:.1f} CPU-s for one call")
        line, self._unread = bytes(self._unread), bytearray()
        try:
            reply = json.loads(line)  # two lines at once are no JSON
        except (ValueError, RecursionError) as error:
            raise ProgramError("the program wrote into its judge's pipe") from error
        if not isinstance(reply, list):
            raise ProgramError("the program wrote into its judge's pipe")
        if reply[:1] == ["failed"]:
            kind, text = (*reply[1:], "", "")[:2]
            raise ProgramError(str(text)[:300], kind if kind in FAILURES else "raised")
        return reply

    def _cpu_s(self) -> float:
        try:
            return time.clock_gettime(self._clock)
        except OSError:
            return 0.0


def _serve(source: str, entry_point: str, calls: int, replies: int) -> None:
    """The program's process: run the source, then answer calls until the judge is gone."""
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    reply = ["ready"]
    try:
        namespace: dict[str, Any] = {}
        exec(compile(source, "program.py", "exec", dont_inherit=True), namespace)
        function = namespace[entry_point]
    except BaseException as error:  # noqa: BLE001 - SystemExit is a failure too
        function, reply = None, _describe(error)
    try:
        _write(replies, reply)
        pending = bytearray()
        while function is not None:
            chunk = os.read(calls, _CHUNK_BYTES)
            if not chunk:
                break
            pending += chunk
            if not pending.endswith(b"\n"):
                continue
            (is_brief, told), pending = json.loads(pending), bytearray()
            arguments = decode(told)
            try:
                answer = function(*arguments)
                line = json.dumps(["answer", encode_briefly(answer) if is_brief else encode(answer)])
            except BaseException as error:  # noqa: BLE001
                line = json.dumps(_describe(error))
            _write_line(replies, line)
    finally:
        os._exit(0)


def _describe(error: BaseException) -> list[str]:
    name = type(error).__name__
    kind = "syntax" if isinstance(error, (SyntaxError, UnicodeError)) or "null bytes" in str(error) else "raised"
    kind = "oom" if isinstance(error, MemoryError) else kind
    try:
        return ["failed", kind, f"{name}: {str(error)[:300]}"]
    except BaseException:  # noqa: BLE001 - the program's own exception class may do anything
        return ["failed", kind, name]


def _write(fd: int, value: Any) -> None:
    _write_line(fd, json.dumps(value))


def _write_line(fd: int, line: str) -> None:
    message = memoryview(line.encode() + b"\n")
    while message:
        message = message[os.write(fd, message) :]


def _read_frame() -> Any:
    """One JSON value of stdin, and not a byte more: the next one must not be in memory yet."""

    def exactly(count: int) -> bytes:
        content = bytearray()
        while len(content) < count:
            chunk = os.read(0, min(count - len(content), _CHUNK_BYTES))
            if not chunk:
                raise EOFError(f"{len(content)} of {count} bytes")
            content += chunk
        return bytes(content)

    return json.loads(exactly(int(exactly(16))))


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
        except ProgramTimeoutError as error:
            return "timeout", f"input {index}: {error}"
        except ProgramError as error:
            return error.kind, f"{error} (input {index})"
        except (Exception, SystemExit) as error:  # noqa: BLE001 - an answer that cannot be compared
            return "wrong", f"input {index}: {type(error).__name__}: {str(error)[:200]}"
        if not is_right:
            return "wrong", f"input {index}: {show(out)} instead of {show(expected)}"
    return "passed", ""


def record_outputs(program: Program, task: dict[str, Any]) -> Any:
    """The outputs of a solution known to be right, with the CPU seconds of each call."""
    outputs, seconds = [], []
    for arguments in decode(task["inputs"]):
        before = program._cpu_s()
        outputs.append(encode(program.call(arguments, is_brief=True)))
        seconds.append(program._cpu_s() - before)
    return {"outputs": ["list", outputs], "seconds": seconds}


def main() -> None:
    """Read the program, fork it, read the task, print the verdict with the nonce."""
    sys.set_int_max_str_digits(0)
    if ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError("prctl(PR_SET_DUMPABLE)")
    under_test = _read_frame()
    program = Program(under_test["program"], under_test["entry_point"])
    task = _read_frame()
    verdicts: dict[str, Any] = {}
    failure: tuple[str, str] | None = None
    try:
        program.start()
    except ProgramError as error:
        failure = error.kind, str(error)
    for name, part in task["parts"].items():
        if failure is not None:
            verdicts[name] = failure
        elif part["mode"] == "tests":
            verdicts[name] = run_tests(program, part)
        elif part["mode"] == "record":
            verdicts[name] = record_outputs(program, part)
        else:
            verdicts[name] = run_cases(program, part)
        if isinstance(verdicts[name], tuple) and verdicts[name][0] != "passed":
            failure = verdicts[name]  # what comes after is not asked
    sys.stdout.write(json.dumps({"nonce": task["nonce"], "verdicts": verdicts}))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
