"""Base of the code benchmarks: their files, the way from an answer to a program, the shape of a score."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

from dft_eval.end_tokens import answer_text
from dft_eval.metrics import Estimate, score_share
from dft_eval.prerequisites import Missing
from dft_eval.records.schema import Answer, Sample, Score, Status
from dft_eval.sandbox.choose import open_sandbox
from dft_eval.sandbox.errors import SandboxUnavailableError
from dft_eval.tasks.base import Task
from dft_eval.tasks.code.protocols import CHAT_MAX_NEW_TOKENS, CHAT_PROMPT, CODE_PROTOCOLS, cut_at
from dft_eval.tasks.code.python_programs import Verdict
from dft_eval.tasks.protocol_rules import ProtocolRules

_FENCE = re.compile(r"```.*?\n(.*?)```", re.DOTALL)

CodeProblem = Mapping[str, Any]


class CodeTask(Task):
    """A benchmark whose answers are programs.

    Its protocols are `protocols.CODE_PROTOCOLS`: what each asks, where it cuts, how it reads and what passes.
    """

    domain: ClassVar[str] = "code"
    protocols: ClassVar[tuple[str, ...]] = tuple(CODE_PROTOCOLS)
    chat_protocols: ClassVar[tuple[str, ...]] = ("chat", "qwen-chat")
    all_rules: ClassVar[tuple[ProtocolRules, ...]] = tuple(CODE_PROTOCOLS.values())
    texts: ClassVar[tuple[str, ...]] = ("completion", "program", "answer")
    id_key: ClassVar[str] = "task_id"
    max_new_tokens: ClassVar[int]
    fence_name: ClassVar[str] = "python"

    @cached_property
    def problems(self) -> dict[str, CodeProblem]:
        """The benchmark's records by id, in its order."""
        return {record[self.id_key]: record for record in self.data_files[0].records(self.data_dir)}

    def samples(self) -> Sequence[Sample]:
        """Every problem's prompt under the protocol."""
        return [self._sample(sample_id, problem) for sample_id, problem in self.problems.items()]

    def missing(self) -> Sequence[Missing]:
        """A sandbox that works, and the toolchain."""
        try:
            open_sandbox()
        except SandboxUnavailableError as error:
            return (Missing("a sandbox", str(error)),)
        return self.missing_tools()

    def score(self, answer: Answer) -> Score:
        """Score one program under `qwen-base` and `strict` rules; `passed` follows the protocol."""
        problem = self.problems[answer.sample_id]
        program = self.source(problem, answer)
        if not program.strip():
            return _score(answer, Verdict("no_answer"), {})
        verdicts = self.find_verdicts(problem, program)
        verdict = verdicts[self.deciding_verdict]
        was_cut = self.rules.interface == "chat" and answer.finish_reason == "length"
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

    def source(self, problem: CodeProblem, answer: Answer) -> str:
        """Return the program that runs before the tests; empty where nothing was answered.

        A `program` is taken as it is. An `answer` is read as a chat answer, whatever the protocol.
        """
        text = answer_text(answer).replace("\r\n", "\n")
        if not text.strip():
            return ""
        if answer.program is not None:
            return self.from_program(problem, text)
        if self.protocol == "qwen-chat":
            return self.from_first_fence(problem, text)
        if self.protocol == "chat" or answer.response is not None:
            return self.from_chat(problem, text)
        completion = cut_at(text, self.stops(problem))
        return self.from_completion(problem, completion) if completion.strip() else ""

    @property
    def rules(self) -> ProtocolRules:
        """The protocol's."""
        return CODE_PROTOCOLS[self.protocol]

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
        """Return the tools that must be installed."""

    @abstractmethod
    def stops(self, problem: CodeProblem) -> tuple[str, ...]:
        """Texts before which a completion of a problem's prompt ends."""

    @abstractmethod
    def from_completion(self, problem: CodeProblem, completion: str) -> str:
        """The program, without the tests, of what follows the prompt."""

    @abstractmethod
    def from_chat(self, problem: CodeProblem, response: str) -> str:
        """The program that a careful reader of a chat answer would run; empty where there is none."""

    @abstractmethod
    def from_first_fence(self, problem: CodeProblem, response: str) -> str:
        """The program that Qwen's harness takes from a chat answer."""

    def from_program(self, problem: CodeProblem, program: str) -> str:
        """A complete program without its tests."""
        return program

    @abstractmethod
    def find_verdicts(self, problem: CodeProblem, program: str) -> dict[str, Verdict]:
        """The verdicts on a program."""

    def _sample(self, sample_id: str, problem: CodeProblem) -> Sample:
        prompt = problem["prompt"].strip()
        if self.rules.interface == "chat":
            message = {"role": "user", "content": CHAT_PROMPT.format(language=self.fence_name, prompt=prompt)}
            return Sample(sample_id, (message,), (), CHAT_MAX_NEW_TOKENS)
        return Sample(sample_id, prompt + "\n", self.stops(problem), self.max_new_tokens)


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
