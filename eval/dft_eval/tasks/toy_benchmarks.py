"""The toy tasks as benchmarks, for studies of tiny models: everything a study does, in minutes on a CPU."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

from dft_eval.end_tokens import answer_text
from dft_eval.metrics import Estimate, score_share
from dft_eval.records.schema import Answer, Sample, Score
from dft_eval.tasks.base import DataFile, Task
from dft_eval.tasks.protocol_rules import ProtocolRules
from dft_eval.tasks.toy import MAX_RESPONSE_CHARACTERS, ToyProblem, ToyWorld, grade, invent_world

SEED = 0
_MAX_NEW_TOKENS = MAX_RESPONSE_CHARACTERS + 8

ASKED = ProtocolRules(
    name="asked",
    interface="chat",
    prompt="the question alone",
    cut="nothing is cut",
    reading="the text behind the last `;`",
    verdict="the right result, and the model stopped by itself",
    source="TOY: this project's own; says something about training losses, nothing about models",
)


class _Toy(Task):
    """A toy task; its problems are made, not read."""

    domain: ClassVar[str] = "toy"
    data_files: ClassVar[tuple[DataFile, ...]] = ()
    all_rules: ClassVar[tuple[ProtocolRules, ...]] = (ASKED,)
    protocols: ClassVar[tuple[str, ...]] = ("asked",)
    chat_protocols: ClassVar[tuple[str, ...]] = ("asked",)

    @cached_property
    def problems(self) -> dict[str, ToyProblem]:
        """By sample id."""
        return {problem.sample_id: problem for problem in self._choose(invent_world(random.Random(SEED)))}

    @abstractmethod
    def _choose(self, world: ToyWorld) -> Sequence[ToyProblem]:
        """The problems of the world that are asked."""

    def samples(self) -> Sequence[Sample]:
        """A chat turn each."""
        return [
            Sample(name, ({"role": "user", "content": problem.prompt},), (), _MAX_NEW_TOKENS)
            for name, problem in self.problems.items()
        ]

    def score(self, answer: Answer) -> Score:
        """Right results of models that stopped."""
        has_stopped = answer.finish_reason != "length"
        verdict = grade(self.problems[answer.sample_id], answer_text(answer), has_stopped=has_stopped)
        return Score(answer.sample_id, answer.repeat, verdict.passed, verdict.status, float(verdict.passed), {})

    def summarise(self, scores: Sequence[Score]) -> dict[str, Estimate]:
        """`accuracy`."""
        return {"accuracy": score_share([each.score or 0.0 for each in scores], [each.sample_id for each in scores])}

    def fingerprint(self) -> dict[str, str]:
        """Seed and number of the problems."""
        return {"problems": f"{len(self.problems)} made with seed {SEED}"}


class ToyAddition(_Toy):
    """Additions that no training file of the toy world holds."""

    name: ClassVar[str] = "toy_addition"

    def _choose(self, world: ToyWorld) -> Sequence[ToyProblem]:
        return world.held_out


class ToyFacts(_Toy):
    """The made-up facts that are taught, asked in the words they are taught in."""

    name: ClassVar[str] = "toy_facts"

    def _choose(self, world: ToyWorld) -> Sequence[ToyProblem]:
        return world.new_facts
