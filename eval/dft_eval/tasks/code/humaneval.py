"""HumanEval (Chen et al. 2021): 164 Python functions, each with the tests of the original benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from dft_eval.languages import python
from dft_eval.prerequisites import Missing
from dft_eval.sandbox.choose import open_sandbox
from dft_eval.sandbox.program import Limits
from dft_eval.tasks.base import DataFile
from dft_eval.tasks.code.code_task import CodeProblem, CodeTask, first_fence
from dft_eval.tasks.code.protocols import HUMANEVAL_STOPS
from dft_eval.tasks.code.python_answers import read_python_answer
from dft_eval.tasks.code.python_programs import Verdict, find_python_verdicts

LIMITS = Limits(cpu_s=10, wall_s=50)
TAB = "\t"


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

    def stops(self, problem: CodeProblem) -> tuple[str, ...]:
        """EvalPlus' for base models, and a code fence."""
        return HUMANEVAL_STOPS

    def from_completion(self, problem: CodeProblem, completion: str) -> str:
        """Prompt and completion, tabs as four spaces."""
        return f"{problem['prompt'].strip()}\n{completion.replace(TAB, 4 * ' ')}"

    def from_chat(self, problem: CodeProblem, response: str) -> str:
        """The function wherever it stands, with what it needs of the prompt."""
        return read_python_answer(response, problem["prompt"], problem["entry_point"])

    def from_first_fence(self, problem: CodeProblem, response: str) -> str:
        """The first code block, behind the prompt where it does not name the function."""
        code = first_fence(response)
        return code if f"def {problem['entry_point']}" in code else f"{problem['prompt']}{code}"

    def find_verdicts(self, problem: CodeProblem, program: str) -> dict[str, Verdict]:
        """One verdict under both names: there is nothing lenient about running the tests."""
        tests = {
            "mode": "tests",
            "context": problem["prompt"],
            "tests": problem["test"],
            "entry_point": problem["entry_point"],
            "check": True,
        }
        verdict = find_python_verdicts(program, problem["entry_point"], {"tests": tests}, LIMITS)["tests"]
        return {"qwen-base": verdict, "strict": verdict}
