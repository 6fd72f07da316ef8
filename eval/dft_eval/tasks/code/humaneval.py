"""HumanEval (Chen et al. 2021): 164 Python functions, each with the tests of the original benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from dft_eval.languages import python
from dft_eval.prerequisites import Missing
from dft_eval.records.schema import Answer
from dft_eval.sandbox.choose import open_sandbox
from dft_eval.sandbox.program import Limits
from dft_eval.tasks.base import DataFile
from dft_eval.tasks.code.code_task import CodeTask, Problem, first_fence
from dft_eval.tasks.code.python_programs import Verdict, judge_python

LIMITS = Limits(cpu_s=10, wall_s=50)


class HumanEval(CodeTask):
    """Tests run in a process of their own, so early exits and forged verdicts fail under every protocol."""

    name: ClassVar[str] = "humaneval"
    data_files: ClassVar[tuple[DataFile, ...]] = (
        DataFile(
            "humaneval/HumanEval.jsonl.gz",
            "https://raw.githubusercontent.com/openai/human-eval/6d43fb980f9fee3c892a914eda09951f772ad10d/"
            "data/HumanEval.jsonl.gz",
            "b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef",
        ),
    )
    max_new_tokens: ClassVar[int] = 768

    def missing_tools(self) -> Sequence[Missing]:
        """Python and NumPy."""
        return python.missing()

    def fingerprint(self) -> dict[str, str]:
        """Their versions and the sandbox's kind."""
        return {**python.fingerprint(), "sandbox": open_sandbox().name}

    def program(self, problem: Problem, answer: Answer) -> str:
        """Prompt and completion; what calls itself a program is taken as it is."""
        return python_program(problem, answer, self.protocol)

    def judge(self, problem: Problem, program: str) -> dict[str, Verdict]:
        """One verdict under both names: there is nothing lenient about running the tests."""
        tests = {
            "mode": "tests",
            "context": problem["prompt"],
            "tests": problem["test"],
            "entry_point": problem["entry_point"],
            "check": True,
        }
        verdict = judge_python(program, problem["entry_point"], {"tests": tests}, LIMITS)["tests"]
        return {"qwen-base": verdict, "strict": verdict}


def python_program(problem: Problem, answer: Answer, protocol: str) -> str:
    """The source of an answer to a HumanEval prompt.

    Nothing is cut off a completion, as in Qwen's and EvalPlus' evaluation of base models.
    """
    if answer.program is not None:
        return answer.program
    text = answer.completion if answer.completion is not None else answer.response or ""
    if protocol == "qwen-chat" or answer.response is not None:
        code = first_fence(text)
        return code if f"def {problem['entry_point']}" in code else f"{problem['prompt']}{code}"
    return f"{problem['prompt'].strip()}\n{text}"
