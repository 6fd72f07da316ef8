"""GSM8K (Cobbe et al. 2021): 1,319 word problems; and a derived task, the calculations inside its own solutions."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Any, ClassVar

from dft_eval.end_tokens import answer_text
from dft_eval.errors import ConfigError
from dft_eval.metrics import Estimate, score_share
from dft_eval.prerequisites import Missing
from dft_eval.records.schema import Answer, Sample, Score, Status
from dft_eval.tasks.base import DataFile, Task, TaskSettings
from dft_eval.tasks.math.grader import describe_grader, grade_response, is_installed
from dft_eval.tasks.math.responses import is_torn
from dft_eval.tasks.protocol_rules import ProtocolRules

NUM_SHOTS = 8
SHOTS_SEED = 1234
STOPS = ("\nQuestion:",)
_SOURCE = (
    "https://raw.githubusercontent.com/openai/grade-school-math/3101c7d5072418e28b9008a6636bde82a006892c/"
    "grade_school_math/data"
)
_TEST = DataFile(
    "gsm8k/test.jsonl", f"{_SOURCE}/test.jsonl", "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14"
)
_TRAIN = DataFile(
    "gsm8k/train.jsonl", f"{_SOURCE}/train.jsonl", "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465"
)
_MARK = re.compile(r"<<[^<>]*>>")
_CALCULATION = re.compile(r"<<[^<>]*=([^<>=]*)>>")
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?|-?\.\d+")
_FINAL = re.compile(r"####\s*\$?\s*(-?[\d.,]*\d)")

EIGHT_SHOT = ProtocolRules(
    name="8-shot",
    interface="completion",
    prompt=f"{NUM_SHOTS} solved problems of the training split and the problem: `Question: ...\\nAnswer:`",
    cut="before a further `Question:` on a line of its own",
    reading="the number behind the first `####`; where there is none, the last number of the text",
    verdict="the same number",
    source=(
        "the data's own form of answers, without calculator marks; examples drawn with a fixed seed, so that figures "
        "differ from those of other harnesses, which show other examples"
    ),
    stops=STOPS,
)
ZERO_SHOT_CHAT = ProtocolRules(
    name="0-shot-chat",
    interface="chat",
    prompt="{question}\nPlease reason step by step, and put your final answer within \\boxed{}.",
    cut="nothing is cut",
    reading="as for the other benchmarks of mathematics: the last box, else what the text ends with",
    verdict="equal by math-verify with this project's normaliser",
    source="the instruction of Qwen2.5-Math's evaluation, through the model's own chat template",
)
GIVEN_STEPS = ProtocolRules(
    name="given-steps",
    interface="completion",
    prompt="`Question: ...\\nAnswer: ...` up to an equals sign of the problem's own solution",
    cut="nothing is written: the result is given, and the model is asked for its likeliest token at each place",
    reading="the likeliest tokens",
    verdict="every token of the result is the likeliest one",
    source="DERIVED from GSM8K by this project, for models that solve no whole problem; never a GSM8K score",
)


class Gsm8k(Task):
    """Whole problems: 8-shot completion, or 0-shot chat."""

    name: ClassVar[str] = "gsm8k"
    domain: ClassVar[str] = "mathematics"
    data_files: ClassVar[tuple[DataFile, ...]] = (_TEST, _TRAIN)
    all_rules: ClassVar[tuple[ProtocolRules, ...]] = (EIGHT_SHOT, ZERO_SHOT_CHAT)
    protocols: ClassVar[tuple[str, ...]] = ("8-shot", "0-shot-chat")
    chat_protocols: ClassVar[tuple[str, ...]] = ("0-shot-chat",)

    @cached_property
    def golds(self) -> dict[str, str]:
        """The number of each problem by sample id, without commas."""
        return {
            f"gsm8k/{line}": row["answer"].rpartition("####")[2].strip().replace(",", "")
            for line, row in enumerate(_TEST.records(self.data_dir))
        }

    @cached_property
    def shots(self) -> str:
        """The solved problems before each question."""
        pool = _TRAIN.records(self.data_dir)
        chosen = random.Random(SHOTS_SEED).sample(range(len(pool)), NUM_SHOTS)
        return "".join(f"{ask(pool[line])} {without_marks(pool[line]['answer'])}\n\n" for line in chosen)

    def samples(self) -> Sequence[Sample]:
        """Every problem under the protocol."""
        return [self._sample(f"gsm8k/{line}", row) for line, row in enumerate(_TEST.records(self.data_dir))]

    def questions(self) -> dict[str, str]:
        """The problems alone."""
        return {f"gsm8k/{line}": row["question"] for line, row in enumerate(_TEST.records(self.data_dir))}

    def missing(self) -> Sequence[Missing]:
        """The grader's libraries, in a chat."""
        needs_grader = self.interface == "chat" and not is_installed()
        return (Missing("math-verify", "pip install 'dft-plugin[eval]'"),) if needs_grader else ()

    def score(self, answer: Answer) -> Score:
        """Compare the final number; an `answer` (a response to grade) is read as in a chat."""
        gold, text = self.golds[answer.sample_id], answer_text(answer)
        if self.interface == "chat" or answer.response is not None:
            verdict = grade_response(gold, text)
            status: Status = verdict.pop("status")
            found, has_mark = verdict.get("answer", ""), "####" in text
        else:
            found, has_mark = final_number(text)
            status = "no_answer" if found is None else "ok" if is_same_number(found, gold) else "wrong"
        if answer.finish_reason == "length" and status in ("wrong", "no_answer"):
            status = "truncated"
        passed = status == "ok"
        detail = {"answer": (found or "")[:200], "has_mark": has_mark}
        return Score(answer.sample_id, answer.repeat, passed, status, float(passed), detail)

    def summarise(self, scores: Sequence[Score]) -> dict[str, Estimate]:
        """`accuracy`, and that of answers which end as the examples do."""
        ids = [score.sample_id for score in scores]
        marked = [float(score.passed is True and score.detail["has_mark"]) for score in scores]
        return {
            "accuracy": score_share([score.score or 0.0 for score in scores], ids),
            "right behind ####": score_share(marked, ids),
        }

    def fingerprint(self) -> dict[str, str]:
        """Return the rule by which examples were drawn; in a chat the grader."""
        if self.interface == "chat":
            return describe_grader()
        return {"shots": f"{NUM_SHOTS} of {_TRAIN.path}, seed {SHOTS_SEED}"}

    def _sample(self, sample_id: str, row: dict[str, Any]) -> Sample:
        if self.interface == "chat":
            return Sample(sample_id, ({"role": "user", "content": _in_chat(row["question"])},), (), 1024)
        return Sample(sample_id, self.shots + ask(row), STOPS, 512)


class Gsm8kSteps(Task):
    """Derived: the calculations inside GSM8K's solutions, each with everything before its equals sign given.

    It is not GSM8K and its score is none. It separates small models that solve no whole problem.
    """

    name: ClassVar[str] = "gsm8k_steps"
    domain: ClassVar[str] = "mathematics"
    data_files: ClassVar[tuple[DataFile, ...]] = (_TEST,)
    all_rules: ClassVar[tuple[ProtocolRules, ...]] = (GIVEN_STEPS,)
    protocols: ClassVar[tuple[str, ...]] = ("given-steps",)
    texts: ClassVar[tuple[str, ...]] = ("completion",)

    @cached_property
    def steps(self) -> list[Sample]:
        """Every calculation whose result is written out behind its equals sign."""
        return [step for line, row in enumerate(_TEST.records(self.data_dir)) for step in _steps_of(line, row)]

    @cached_property
    def golds(self) -> dict[str, str]:
        """The result of each by sample id."""
        return {step.sample_id: step.continuation for step in self.steps}

    def samples(self) -> Sequence[Sample]:
        """Question and solution up to each result; the unit of statistics is the problem."""
        return self.steps

    def questions(self) -> dict[str, str]:
        """The problems alone."""
        return {f"gsm8k_steps/{line}": row["question"] for line, row in enumerate(_TEST.records(self.data_dir))}

    def score(self, answer: Answer) -> Score:
        """Right where the likeliest tokens are the result's."""
        passed = (answer.completion or "") == self.golds[answer.sample_id]
        status: Status = "ok" if passed else "wrong" if (answer.completion or "").strip() else "no_answer"
        return Score(answer.sample_id, answer.repeat, passed, status, float(passed), {})

    def summarise(self, scores: Sequence[Score]) -> dict[str, Estimate]:
        """The share of calculations."""
        units = {step.sample_id: step.unit for step in self.steps}
        values = [score.score or 0.0 for score in scores]
        return {"right results (derived from GSM8K)": score_share(values, [units[each.sample_id] for each in scores])}

    def fingerprint(self) -> dict[str, str]:
        """That it is derived."""
        return {"derived": f"{len(self.steps)} calculations of {_TEST.path}; not GSM8K's own score"}

    def check_settings(self, settings: TaskSettings) -> None:
        """As for every benchmark, and the backend reads given continuations.

        Raises:
            ConfigError: it does not.
        """
        super().check_settings(settings)
        if settings.backend is not None and not settings.backend.reads_continuations:
            raise ConfigError(
                f"{self.name} asks how likely given results are, which the backend of this configuration cannot tell. "
                "Set `backend: {kind: hf, device: ...}`, or leave the task out."
            )


def ask(row: dict[str, Any]) -> str:
    """The problem for a model to continue."""
    return f"Question: {row['question'].strip()}\nAnswer:"


def without_marks(solution: str) -> str:
    """A solution without its calculator marks."""
    return _MARK.sub("", solution)


def final_number(text: str) -> tuple[str | None, bool]:
    """The number an answer ends with, and whether it stands behind `####`."""
    if (marked := _FINAL.search(text)) is not None:
        return marked[1], True
    numbers = _NUMBER.findall(text)
    return (None, False) if not numbers or is_torn(numbers[-1], text) else (numbers[-1], False)


def is_same_number(one: str, other: str) -> bool:
    """Return True for equal numbers; commas separate thousands."""
    try:
        return Decimal(one.replace(",", "").rstrip(".")) == Decimal(other.replace(",", "").rstrip("."))
    except InvalidOperation:
        return False


def _steps_of(line: int, row: dict[str, Any]) -> list[Sample]:
    steps = []
    for index, mark in enumerate(_CALCULATION.finditer(row["answer"])):
        before = without_marks(row["answer"][: mark.start()])
        written = _NUMBER.match(row["answer"], mark.end())
        if written is None or not is_same_number(written[0], mark[1]):
            continue  # rounded, or in other words
        if (head := re.search(r"=(\s*)(\$?)$", before)) is None:
            continue
        blank, currency = head.groups()
        stem = before if currency else before[: len(before) - len(blank)]
        result = written[0].rstrip(",")
        steps.append(
            Sample(
                f"gsm8k_steps/{line}/{index}",
                f"{ask(row)} {stem}",
                (),
                1,
                f"gsm8k_steps/{line}",
                result if currency else blank + result,
            )
        )
    return steps


def _in_chat(question: str) -> str:
    return ZERO_SHOT_CHAT.prompt.replace("{question}", question.strip())
