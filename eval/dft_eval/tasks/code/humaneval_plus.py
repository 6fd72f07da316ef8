"""HumanEval+ (Liu et al. 2023), version 0.1.10: HumanEval with about 80 times the inputs, compared as EvalPlus does.

A program is called with every input and its answer compared with that of the reference solution: exactly, or within
a tolerance where the answer is made of floats; for `find_zero` (HumanEval/32) any root counts, which EvalPlus 0.3.1
intends but reports as failed. Time limits are EvalPlus' (1 s a call, or 4 times the reference's time) in CPU time.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, ClassVar

import platformdirs

from dft_eval.records.files import write_whole
from dft_eval.sandbox.program import Limits
from dft_eval.tasks.base import DataFile
from dft_eval.tasks.code.code_task import CodeProblem
from dft_eval.tasks.code.humaneval import HumanEval
from dft_eval.tasks.code.python_programs import NoRecordError, Verdict, find_python_verdicts, record_python
from dft_eval.tasks.code.python_values import encode

LIMITS = Limits(cpu_s=60, wall_s=300, memory_mib=4096)

_REFERENCE_LIMITS = Limits(cpu_s=120, wall_s=600, memory_mib=4096, output_mib=256)
_MIN_CALL_LIMIT_S = 1.0
_CALL_LIMIT_FACTOR = 4.0
_CACHE_VERSION = 3


class NoReferenceError(RuntimeError):
    """The reference solution gave no outputs to compare with."""


class HumanEvalPlus(HumanEval):
    """Two verdicts: `base` on the original inputs, `plus` on all of them, which is the one that counts."""

    name: ClassVar[str] = "humaneval_plus"
    data_files: ClassVar[tuple[DataFile, ...]] = (
        DataFile(
            "humanevalplus/HumanEvalPlus.jsonl.gz",
            "https://github.com/evalplus/humanevalplus_release/releases/download/v0.1.10/HumanEvalPlus.jsonl.gz",
            "e62f4130146963d969da64553f407a66e52d095adbfed4ee6733b4d59e14a3ed",
        ),
    )

    @property
    def deciding_verdict(self) -> str:
        """All inputs, whatever the protocol."""
        return "plus"

    @property
    def verdict_names(self) -> tuple[str, ...]:
        """The verdicts in `detail`."""
        return ("base", "plus")

    def find_verdicts(self, problem: CodeProblem, program: str) -> dict[str, Verdict]:
        """Both verdicts; after a failure on the original inputs the others are not tried."""
        expected = reference_outputs(problem)
        parts = {
            name: {
                "mode": "cases",
                "entry_point": problem["entry_point"],
                "inputs": encode(problem[f"{name}_input"]),
                "expected": expected[name]["outputs"],
                "limits_s": [
                    max(_MIN_CALL_LIMIT_S, _CALL_LIMIT_FACTOR * seconds) for seconds in expected[name]["seconds"]
                ],
                "atol": problem["atol"],
            }
            for name in ("base", "plus")
        }
        return find_python_verdicts(program, problem["entry_point"], parts, LIMITS)


def reference_outputs(problem: CodeProblem) -> dict[str, Any]:
    """Return the reference solution's answer to each input, and the time it takes.

    Computed in the sandbox and kept in the user's cache, which no sandboxed program can reach, as JSON under the
    hash of the problem.

    Raises:
        NoReferenceError: the sandbox failed.
        StoreError: the cache cannot be written.
    """
    record = json.dumps([_CACHE_VERSION, dict(problem)], sort_keys=True).encode()
    path = platformdirs.user_cache_path("dft-plugin") / "humaneval_plus" / f"{hashlib.sha256(record).hexdigest()}.json"
    try:
        return dict(json.loads(path.read_bytes()))
    except (FileNotFoundError, ValueError):
        pass  # not there yet, or cut off by a full disk
    parts = {name: {"mode": "record", "inputs": encode(problem[f"{name}_input"])} for name in ("base", "plus")}
    source = problem["prompt"] + problem["canonical_solution"]
    try:
        told = record_python(source, problem["entry_point"], parts, _REFERENCE_LIMITS)
    except NoRecordError as error:
        raise NoReferenceError(f"{problem['task_id']}: {error}") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(told), is_shared=True)
    return told
