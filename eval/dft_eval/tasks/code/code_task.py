"""What the code benchmarks share: their files, the way from an answer to a program, the shape of a score."""

from __future__ import annotations

import gzip
import json
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

from dft_eval.metrics import Estimate, score_share
from dft_eval.prerequisites import Missing
from dft_eval.records.schema import Answer, Sample, Score, Status
from dft_eval.sandbox.choose import open_sandbox
from dft_eval.sandbox.errors import SandboxUnavailableError
from dft_eval.tasks.base import Task
from dft_eval.tasks.code.python_programs import Verdict

CHAT_MAX_NEW_TOKENS = 4096
_CHAT_PROMPT = (
    "Please continue to complete the function and return all completed code in a codeblock. "
    "Here is the given code to do completion:\n```{language}\n{prompt}\n```"
)
_FENCE = re.compile(r"```.*?\n(.*?)```", re.DOTALL)

Problem = Mapping[str, Any]


class CodeTask(Task):
    """A benchmark whose answers are programs.

    Protocols: `qwen-base` completes the bare prompt and judges by the rules of Qwen2.5-Coder's base evaluation;
    `strict` asks the same and judges by return code 0 and a sentinel printed after the last test; `qwen-chat` asks
    in a chat and judges like `strict`.
    """

    domain: ClassVar[str] = "code"
    protocols: ClassVar[tuple[str, ...]] = ("qwen-base", "qwen-chat", "strict")
    chat_protocols: ClassVar[tuple[str, ...]] = ("qwen-chat",)
    texts: ClassVar[tuple[str, ...]] = ("completion", "program", "answer")
    id_key: ClassVar[str] = "task_id"
    max_new_tokens: ClassVar[int]
    fence_name: ClassVar[str] = "python"

    @cached_property
    def problems(self) -> dict[str, Problem]:
        """The benchmark's records by id, in its order."""
        content = (self.data_dir / self.data_files[0].path).read_bytes()
        if self.data_files[0].path.endswith(".gz"):
            content = gzip.decompress(content)
        records = [json.loads(line) for line in content.decode().splitlines() if line.strip()]
        return {record[self.id_key]: record for record in records}

    def samples(self) -> Sequence[Sample]:
        """Every problem's prompt under the protocol."""
        return [self._sample(sample_id, problem["prompt"].strip()) for sample_id, problem in self.problems.items()]

    def missing(self) -> Sequence[Missing]:
        """A sandbox that works, and the toolchain."""
        try:
            open_sandbox()
        except SandboxUnavailableError as error:
            return (Missing("a sandbox", str(error)),)
        return self.missing_tools()

    def score(self, answer: Answer) -> Score:
        """Judge one program under `qwen-base` and `strict` rules; `passed` follows the protocol."""
        problem = self.problems[answer.sample_id]
        given = next((text for text in (answer.program, answer.completion, answer.response) if text is not None), "")
        if not given.strip():
            return _score(answer, Verdict("no_answer"), {})
        verdicts = self.judge(problem, self.program(problem, answer))
        verdict = verdicts[self.deciding_verdict]
        was_cut = self.protocol == "qwen-chat" and answer.finish_reason == "length"
        if verdict.passed is False and was_cut:
            verdict = Verdict("truncated", verdict.message)
        return _score(answer, verdict, {name: each.status for name, each in verdicts.items()})

    def summarise(self, scores: Sequence[Score]) -> dict[str, Estimate]:
        """`pass@1` of the protocol, and each kind of verdict side by side."""
        judged = [score for score in scores if score.score is not None]
        if not judged:
            return {}
        ids = [score.sample_id for score in judged]
        columns = {"pass@1": score_share([score.score or 0.0 for score in judged], ids)}
        for name in self.verdict_names:
            passes = [float(score.detail.get("verdicts", {}).get(name) == "ok") for score in judged]
            columns[f"pass@1 ({name})"] = score_share(passes, ids)
        return columns

    @property
    def deciding_verdict(self) -> str:
        """The verdict that `passed` is."""
        return "qwen-base" if self.protocol == "qwen-base" else "strict"

    @property
    def verdict_names(self) -> tuple[str, ...]:
        """The verdicts in `detail`."""
        return ("qwen-base", "strict")

    @abstractmethod
    def missing_tools(self) -> Sequence[Missing]:
        """What of the toolchain must be installed."""

    @abstractmethod
    def program(self, problem: Problem, answer: Answer) -> str:
        """The program an answer stands for, without the tests."""

    @abstractmethod
    def judge(self, problem: Problem, program: str) -> dict[str, Verdict]:
        """The verdicts on a program."""

    def _sample(self, sample_id: str, prompt: str) -> Sample:
        if self.protocol == "qwen-chat":
            message = {"role": "user", "content": _CHAT_PROMPT.format(language=self.fence_name, prompt=prompt)}
            return Sample(sample_id, (message,), (), CHAT_MAX_NEW_TOKENS)
        return Sample(sample_id, prompt + "\n", (), self.max_new_tokens)


def first_fence(response: str) -> str:
    """The first code block of a chat answer; all of it where there is none."""
    found = _FENCE.search(response)
    return found.group(1) if found is not None else response.replace("```", "")


def _score(answer: Answer, verdict: Verdict, verdicts: Mapping[str, Status]) -> Score:
    passed = verdict.passed
    detail: dict[str, Any] = {"verdicts": dict(verdicts)}
    if verdict.message and not passed:
        detail["message"] = verdict.message
    return Score(
        answer.sample_id, answer.repeat, passed, verdict.status, None if passed is None else float(passed), detail
    )
