"""Verdicts on Python programs: program and tester in a sandbox each, sockets of plain values between them."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from dft_eval.records.schema import Status
from dft_eval.sandbox.choose import open_sandbox
from dft_eval.sandbox.program import Limits, Outcome, OutcomeStatus
from dft_eval.sandbox.run import alone
from dft_eval.tasks.code.python_tester_process import TesterDiedError, TesterLostError, ask

_STATUS_OF_WORD: Mapping[str, Status] = {
    "passed": "ok",
    "wrong": "wrong",
    "raised": "runtime_error",
    "syntax": "compile_error",
    "timeout": "timeout",
    "oom": "oom",
}
STATUS_OF_OUTCOME: Mapping[OutcomeStatus, Status] = {
    "timeout": "timeout",
    "oom": "oom",
    "output_limit": "runtime_error",
    "disk_limit": "runtime_error",
    "infra_error": "infra_error",
}


class NoRecordError(RuntimeError):
    """A solution known to be right gave no outputs."""


@dataclass(frozen=True)
class Verdict:
    """The verdict on a program.

    Attributes:
        status: As in a score.
        message: A line for people.
    """

    status: Status
    message: str = ""

    @property
    def passed(self) -> bool | None:
        """True, False, or None where it is unknown."""
        return None if self.status == "infra_error" else self.status == "ok"


def find_python_verdicts(
    program: str, entry_point: str, parts: Mapping[str, Mapping[str, Any]], limits: Limits
) -> dict[str, Verdict]:
    """Load a program and put it through each part in turn.

    A timeout counts only when it happens again with no other rerun of this machine under way.

    Args:
        program: Complete source of the function.
        entry_point: The function's name.
        parts: By name, what `python_tester.run_tests` or `python_tester.run_cases` reads; after the first that is
            not passed the others share its verdict.
        limits: For everything together.

    Returns:
        A verdict for each part.
    """
    verdicts = _attempt(program, entry_point, parts, limits)
    if all(verdict.status != "timeout" for verdict in verdicts.values()):
        return verdicts
    with alone():
        return _attempt(program, entry_point, parts, limits)


def record_python(
    program: str, entry_point: str, parts: Mapping[str, Mapping[str, Any]], limits: Limits
) -> dict[str, Any]:
    """The outputs and seconds of a solution known to be right, for each part of mode `record`.

    Raises:
        NoRecordError: it failed, or the sandbox did.
    """
    try:
        told, ended = ask(open_sandbox(), program, entry_point, parts, limits)
    except (TesterLostError, TesterDiedError) as error:
        raise NoRecordError(str(error)) from error
    outcome = ended.result()
    if not all(isinstance(told.get(name), dict) for name in parts):
        raise NoRecordError(f"{outcome.status} {outcome.reason} {outcome.stderr[-300:]!r} {told}")
    return told


def _attempt(
    program: str, entry_point: str, parts: Mapping[str, Mapping[str, Any]], limits: Limits
) -> dict[str, Verdict]:
    try:
        told, ended = ask(open_sandbox(), program, entry_point, parts, limits)
    except TesterDiedError as error:
        if error.code == -signal.SIGXCPU:
            return dict.fromkeys(parts, Verdict("timeout", "comparing its answers took too long"))
        return dict.fromkeys(parts, Verdict("infra_error", str(error)))
    except TesterLostError as error:
        return dict.fromkeys(parts, Verdict("infra_error", f"the tester: {error}"))
    verdicts = {name: _verdict_of(told[name], ended) for name in parts}
    ended.result()  # nothing of it runs on beside the next
    return verdicts


def _verdict_of(told: Sequence[str], ended: Future[Outcome]) -> Verdict:
    """Return the tester's reply as a verdict: a word of its list, and a line for people that nothing is read from."""
    word, message = told
    if word == "ended":
        return _verdict_on_end(ended.result(), message)
    return Verdict(_STATUS_OF_WORD[word], re.sub(r"0x[0-9a-f]+", "0x", message)[:300])


def _verdict_on_end(outcome: Outcome, message: str) -> Verdict:
    """The program's process ended before its tester had asked everything."""
    if outcome.status != "ok":
        return Verdict(STATUS_OF_OUTCOME[outcome.status], outcome.reason)
    last = outcome.stderr.decode(errors="replace").strip().splitlines()[-1:]
    if last and last[0].startswith("MemoryError"):
        return Verdict("oom", last[0])
    return Verdict("runtime_error", f"{message}, return code {outcome.returncode}: {''.join(last)[:200]}")
