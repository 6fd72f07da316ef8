"""Judges Python programs: the program in one process of a sandbox, its judge in another."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dft_eval.languages.base import binary
from dft_eval.records.schema import Status
from dft_eval.sandbox.choose import open_sandbox
from dft_eval.sandbox.program import Command, Limits, Outcome, OutcomeStatus
from dft_eval.sandbox.run import run_command

_JUDGE = Path(__file__).with_name("python_judge.py")
_STATUS_OF_KIND: Mapping[str, Status] = {
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


@dataclass(frozen=True)
class Verdict:
    """What came of a program.

    Attributes:
        status: As in a score.
        message: A line for people.
    """

    status: Status
    message: str = ""

    @property
    def passed(self) -> bool | None:
        """True, False, or None where nobody can say."""
        return None if self.status == "infra_error" else self.status == "ok"


def judge_python(
    program: str, entry_point: str, parts: Mapping[str, Mapping[str, Any]], limits: Limits
) -> dict[str, Verdict]:
    """Load a program and put it through each part in turn.

    Args:
        program: Complete source of the function.
        entry_point: The function's name.
        parts: By name, what `python_judge.run_tests` or `python_judge.run_cases` reads; after the first that is
            not passed the others share its verdict.
        limits: For everything together.

    Returns:
        A verdict for each part.
    """
    outcome, told = ask_judge(program, entry_point, parts, limits)
    if told is not None:
        return {name: verdict_of(*told[name]) for name in parts}
    return dict.fromkeys(parts, _without_answer(outcome))


def ask_judge(
    program: str, entry_point: str, parts: Mapping[str, Mapping[str, Any]], limits: Limits, kept_bytes: int = 1 << 20
) -> tuple[Outcome, dict[str, Any] | None]:
    """Run the judge; returns what came of it, and what it said where it had the last word."""
    nonce = secrets.token_hex(16)
    task = {"nonce": nonce, "parts": {name: dict(part) for name, part in parts.items()}}
    command = Command(
        (binary("python3"), "-I", "judge.py"),
        files={"judge.py": _JUDGE.read_bytes()},
        stdin=_frame({"program": program, "entry_point": entry_point}) + _frame(task),
        limits=limits,
    )
    outcome = run_command(open_sandbox(), command, kept_bytes=kept_bytes)
    if outcome.status != "ok" or outcome.returncode != 0:
        return outcome, None
    try:
        told = json.loads(outcome.stdout)
    except ValueError:
        return outcome, None
    if not isinstance(told, dict) or told.get("nonce") != nonce:
        return outcome, None
    return outcome, told["verdicts"]


def verdict_of(kind: str, message: str) -> Verdict:
    """What the judge says, as a verdict.

    Args:
        kind: The judge's own word, never the program's.
        message: A line for people; nothing is read from it.
    """
    return Verdict(_STATUS_OF_KIND[kind], re.sub(r"0x[0-9a-f]+", "0x", message)[:300])


def _without_answer(outcome: Outcome) -> Verdict:
    """The judge never came to an end: a limit, or the program killed it."""
    if outcome.status != "ok":
        return Verdict(STATUS_OF_OUTCOME[outcome.status], outcome.reason)
    last = outcome.stderr.decode(errors="replace").strip().splitlines()[-1:]
    if last and last[0].startswith("MemoryError"):
        return Verdict("oom", last[0])
    return Verdict("runtime_error", f"the judge ended with {outcome.returncode}: {''.join(last)[:200]}")


def _frame(value: object) -> bytes:
    content = json.dumps(value).encode()
    return b"%016d" % len(content) + content
