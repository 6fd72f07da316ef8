"""The process that grades: reads one JSON line a pair, writes one JSON line a verdict.

Comparing two expressions may take forever or all memory (`9^{9^{9^9}}`), inside C code that no exception reaches.
So each pair has a limit of CPU time at whose end the kernel kills this process; the caller starts another.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
from typing import IO, Any, Literal

from dft_eval.tasks.math.equality import compare_answer
from dft_eval.tasks.math.golds import last_box
from dft_eval.tasks.math.qwen_compat import (
    are_equal_for_qwen,
    find_answer,
    normalise_answer_like_qwen,
    normalise_like_qwen,
)
from dft_eval.tasks.math.responses import extract_answer

Rules = Literal["math_verify", "qwen_compat", "qwen_compat_with_units"]
"""The graders; the last one does not take words for units out of an answer."""

CPU_LIMIT_S = 5.0
MEMORY_LIMIT_BYTES = 4 << 30
MAX_ANSWER_CHARACTERS = 4000


def judge_pair(gold: str, response: str, rules: Rules) -> dict[str, Any]:
    """The verdict on one response."""
    box = last_box(response)
    if rules == "math_verify":
        answer = extract_answer(response)
        shown = answer or box or ""
    else:
        answer = shown = find_answer(response)
    result: dict[str, Any] = {"has_box": box is not None, "answer": shown[:200]}
    if not answer:
        return result | {"status": "no_answer"}
    if len(answer) > MAX_ANSWER_CHARACTERS:
        return result | {"status": "wrong", "message": f"an answer of {len(answer)} characters"}
    try:
        if rules == "math_verify":
            is_right, message = compare_answer(gold, answer)
        else:
            keeps_units = rules == "qwen_compat_with_units"
            given = normalise_answer_like_qwen(answer, keeps_units=keeps_units)
            wanted = normalise_like_qwen(gold, keeps_units=keeps_units)
            is_right, message = are_equal_for_qwen(given, wanted), ""
        return result | {"status": "ok" if is_right else "wrong"} | ({"message": message} if message else {})
    except MemoryError:
        return result | {"status": "oom", "message": f"more than {MEMORY_LIMIT_BYTES >> 30} GiB"}


def serve(requests: IO[str], verdicts: IO[str]) -> None:
    """Grade until the input ends."""
    verdicts.write(json.dumps({"is_ready": True}) + "\n")
    verdicts.flush()
    for line in requests:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT_S)  # its signal, SIGPROF, is not caught: it ends the process
        try:
            result = judge_pair(request["gold"], request["response"], request["rules"])
        except Exception as error:  # noqa: BLE001 - reported to the caller, who counts it as no answer
            result = {"error": f"{type(error).__name__}: {error}"[:500]}
        signal.setitimer(signal.ITIMER_PROF, 0)
        verdicts.write(json.dumps(result) + "\n")
        verdicts.flush()


def main() -> None:
    """Entry point of the process; what libraries print goes to stderr, so that stdout holds verdicts alone."""
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the asking process's to handle
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    verdicts = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    import math_verify  # noqa: F401 - before the first limit runs

    serve(sys.stdin, verdicts)
