"""MultiPL-E (Cassano et al. 2022): HumanEval in eight languages, with the prompts Qwen2.5-Coder is evaluated on."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cache
from typing import ClassVar

from dft_eval.languages import python
from dft_eval.languages.base import Execution, Language, Sentinel, new_sentinel
from dft_eval.languages.registry import language_named
from dft_eval.prerequisites import Missing
from dft_eval.records.schema import Sample, Status
from dft_eval.sandbox.choose import open_sandbox
from dft_eval.sandbox.program import Limits
from dft_eval.tasks.base import DataFile
from dft_eval.tasks.code.code_task import CodeProblem, CodeTask, first_fence
from dft_eval.tasks.code.control_run import altered_tests
from dft_eval.tasks.code.multipl_e_answers import read_chat_answer
from dft_eval.tasks.code.multipl_e_programs import (
    completed_source,
    python_entry_point,
    qwen_chat_source,
    tested_source,
    without_tests,
)
from dft_eval.tasks.code.protocols import multipl_e_stops
from dft_eval.tasks.code.python_programs import STATUS_OF_OUTCOME, Verdict, find_python_verdicts

logger = logging.getLogger(__name__)

LIMITS = Limits(cpu_s=10, wall_s=50)
JAR = "multipl_e/javatuples-1.2.jar"

_SOURCE = "https://raw.githubusercontent.com/QwenLM/Qwen2.5-Coder/d5ead97/qwencoder-eval/instruct/multipl_e/chat/data"
_SHA256 = {
    "python": "0eae07adadbb00d51962fdb78b9e2a26bfa8ade85dc54eb57cae9bffed2f5c54",
    "cpp": "8717eabdf202137158c84506144b0fb1e73d5ecccbe5363ec79009ca014df629",
    "java": "b21b015763452ec4f9f4e0e6425148ec331ace4da1232c8b4d441186185f6265",
    "php": "bebd86875b1d8e65a8b7e692ed7bdf64612b44aa388825ea4dab40c7047c786b",
    "ts": "4b1af1050c9f226335d54a8c80553c39454a525cace3e67bdcfcc9092ba02637",
    "cs": "1c3fe18be10addc2d0b96311f4db192ae3232e08628d17768d889d6ab87be224",
    "sh": "2f702106e9ce4aa7385de568d9248d6c57c90382d782b162cb9e072fbd01ccf8",
    "js": "634e2eee8d6e22de07c121b972207683dd96be76256bf44bdfc1a3386b739287",
}
_JAR_FILE = DataFile(
    JAR, f"{_SOURCE}/javatuples-1.2.jar", "2eda5b19d9820e1cc2f69fcd01639a715a673c11f8507e3d1ed593cf765d5e0a"
)
_FAILED_TEST = {
    "cpp": b"Assertion",
    "java": b"AssertionError",
    "php": b"Test failed!",
    "ts": b"AssertionError",
    "cs": b"Fail",
    "js": b"AssertionError",
}
_OUT_OF_MEMORY = (
    b"OutOfMemory",
    b"bad_alloc",
    b"heap out of memory",
    b"Allowed memory size",
    b"Cannot allocate memory",
)


UNSOLVABLE: Mapping[str, Mapping[str, str]] = {
    "php": {"HumanEval_23_strlen": "it asks for a function `strlen`, which PHP has and which cannot be declared again"}
}
"""Problems no answer can pass, by language; they stay in the benchmark, as in the published figures."""


class MultiPLE(CodeTask):
    """One language; a class a language, since the task's name belongs to the class."""

    language: ClassVar[str]
    max_new_tokens: ClassVar[int] = 500

    @property
    def toolchain(self) -> Language:
        """The language's tools."""
        return language_named(self.language, self.data_dir / JAR)

    def samples(self) -> Sequence[Sample]:
        """Every problem's prompt under the protocol; logs once those that have no solution."""
        _say_unsolvable(self.language)
        return super().samples()

    def missing_tools(self) -> Sequence[Missing]:
        """Return the language's tools that are not installed."""
        return self.toolchain.missing()

    def fingerprint(self) -> dict[str, str]:
        """The tools' versions and the sandbox's kind."""
        return {**self.toolchain.fingerprint(), "sandbox": open_sandbox().name}

    def stops(self, problem: CodeProblem) -> tuple[str, ...]:
        """The problem's own."""
        return multipl_e_stops(self.language, problem)

    def from_completion(self, problem: CodeProblem, completion: str) -> str:
        """Imports, prompt and completion."""
        return completed_source(self.language, problem, completion)

    def from_chat(self, problem: CodeProblem, response: str) -> str:
        """The function wherever it stands, with what it needs of the prompt, open where the tests go on."""
        return read_chat_answer(self.language, problem, response)

    def from_first_fence(self, problem: CodeProblem, response: str) -> str:
        """The first code block, by the rules of Qwen's harness."""
        return qwen_chat_source(self.language, problem, first_fence(response))

    def from_program(self, problem: CodeProblem, program: str) -> str:
        """Everything before the tests, where the program has them."""
        return without_tests(problem, program)

    def find_verdicts(self, problem: CodeProblem, program: str) -> dict[str, Verdict]:
        """Run the program once and apply both rules; where it passes the strict one, run a control."""
        execution, sentinel = self._executed(program, problem["test"])
        strict = strict_verdict(self.language, execution, sentinel)
        qwen_base = qwen_base_verdict(self.language, execution, sentinel, strict)
        if strict.passed:
            strict = self._controlled(program, problem["test"], strict)
        return {"qwen-base": qwen_base, "strict": strict}

    def _executed(self, program: str, tests: str) -> tuple[Execution, Sentinel]:
        sentinel = new_sentinel()
        source = tested_source(self.language, program, tests)
        return self.toolchain.execute(source, sentinel, open_sandbox(), LIMITS), sentinel

    def _controlled(self, program: str, tests: str, strict: Verdict) -> Verdict:
        """`forged` for a program that also passes tests it has to fail; unchanged where no test can be altered."""
        altered = altered_tests(self.language, tests)
        if altered is None:
            return strict
        control = strict_verdict(self.language, *self._executed(program, altered))
        if control.passed:
            return Verdict("forged", "it passes whatever is expected of it")
        return control if control.status == "infra_error" else strict


class MultiPLEPython(MultiPLE):
    """Python, whose tests run in a process of their own: both rules give one verdict."""

    def missing_tools(self) -> Sequence[Missing]:
        """Python and NumPy."""
        return python.missing()

    def fingerprint(self) -> dict[str, str]:
        """Their versions and the sandbox's kind."""
        return {**python.fingerprint(), "sandbox": open_sandbox().name}

    def find_verdicts(self, problem: CodeProblem, program: str) -> dict[str, Verdict]:
        """Run the benchmark's tests on the program's function."""
        entry_point = python_entry_point(problem)
        tests = {
            "mode": "tests",
            "context": problem["prompt"],
            "tests": problem["test"],
            "entry_point": entry_point,
            "check": False,
        }
        verdict = find_python_verdicts(program, entry_point, {"tests": tests}, LIMITS)["tests"]
        return {"qwen-base": verdict, "strict": verdict}


@cache
def _say_unsolvable(language: str) -> None:
    for sample_id, reason in UNSOLVABLE.get(language, {}).items():
        logger.warning("multipl_e/%s: no answer to %s can pass: %s.", language, sample_id, reason)


def strict_verdict(language: str, execution: Execution, sentinel: Sentinel) -> Verdict:
    """Return code 0 and the sentinel, and for C# no failed assertion on stderr."""
    outcome = execution.outcome
    message = (outcome.stderr.strip() or outcome.stdout.strip())[-300:].decode(errors="replace")
    if outcome.status != "ok":
        return Verdict(STATUS_OF_OUTCOME[outcome.status], outcome.reason or message)
    if not execution.is_compiled:
        return Verdict("compile_error", message)
    if language == "cs" and b"Fail" in outcome.stderr:  # a failed assertion does not end a C# program
        return Verdict("wrong", message)
    has_ended = sentinel.text.encode() in outcome.stdout
    if outcome.returncode == 0:
        return Verdict("ok") if has_ended else Verdict("wrong", "ended before its last test")
    if any(mark in outcome.stderr for mark in _OUT_OF_MEMORY):
        return Verdict("oom", message)
    return Verdict(_failure(language, execution), f"return code {outcome.returncode}: {message}")


def qwen_base_verdict(language: str, execution: Execution, sentinel: Sentinel, strict: Verdict) -> Verdict:
    """The recorded rule, where it differs from the strict one.

    JavaScript fails on any output. C# passes unless stderr has "Fail", so programs that end in an unhandled
    exception pass. A program that ends early with return code 0 passes nowhere.
    """
    outcome = execution.outcome
    if outcome.status != "ok" or not execution.is_compiled or strict.status == "oom":  # the limit is ours
        return strict
    if language == "js" and strict.status == "ok":
        has_written = bool(outcome.stderr or outcome.stdout.replace(sentinel.text.encode(), b"", 1))
        return Verdict("wrong", "it printed something") if has_written else strict
    if language == "cs" and outcome.returncode != 0 and b"Fail" not in outcome.stderr:
        return Verdict("ok")
    return strict


def _failure(language: str, execution: Execution) -> Status:
    outcome = execution.outcome
    if language == "sh":
        return "wrong" if outcome.returncode == 1 and not outcome.stderr else "runtime_error"
    return "wrong" if _FAILED_TEST[language] in outcome.stderr + outcome.stdout else "runtime_error"


def _task(language: str) -> type[MultiPLE]:
    base = MultiPLEPython if language == "python" else MultiPLE
    data = DataFile(
        f"multipl_e/humaneval-{language}.jsonl",
        f"{_SOURCE}/humaneval/humaneval-{language}.jsonl",
        _SHA256[language],
    )
    fields = {
        "__module__": __name__,
        "__doc__": f"MultiPL-E, {language}.",
        "name": f"multipl_e/{language}",
        "language": language,
        "fence_name": language,
        "data_files": (data, _JAR_FILE) if language == "java" else (data,),
    }
    return type(f"MultiPLE_{language}", (base,), fields)


MULTIPL_E: tuple[type[MultiPLE], ...] = tuple(_task(language) for language in _SHA256)
globals().update({kind.__name__: kind for kind in MULTIPL_E})  # so that instances can be pickled
