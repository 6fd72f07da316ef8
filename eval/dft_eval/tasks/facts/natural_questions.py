"""Natural Questions, closed book (NQ-open, Lee et al. 2019): 3,610 questions, scored as in ORQA."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

from dft_eval.end_tokens import answer_text
from dft_eval.metrics import Estimate, score_share
from dft_eval.records.schema import Answer, Sample, Score, Status
from dft_eval.tasks.base import DataFile, Task
from dft_eval.tasks.facts.short_answers import RULES_VERSION, best_f1, contains_answer, is_exact_match, normalise
from dft_eval.tasks.protocol_rules import ProtocolRules

MAX_NEW_TOKENS = 64
NUM_SHOTS = 5
SHOTS_SEED = 1234
_SOURCE = "https://raw.githubusercontent.com/google-research-datasets/natural-questions"
FIVE_SHOT = ProtocolRules(
    name="5-shot",
    interface="completion",
    prompt=f"{NUM_SHOTS} examples of EfficientQA's development set and the question: `Q: ...?\\nA:`",
    cut="before the first newline, blank lines in front aside; full stops and commas belong to answers",
    reading="the text as it stands",
    verdict="ORQA's exact match with one accepted answer; contains and F1 beside it",
    source="Lee et al. 2019; lm-eval's `nq_open` stops at full stops and commas too, which makes 8.6% unreachable",
    stops=("\n",),
)


class NaturalQuestions(Task):
    """Short factual answers from memory.

    The five examples before each question are the same for all and come from EfficientQA's development set, which
    shares no question with the 3,610. Only a newline stops an answer: accepted answers hold full stops and commas.
    """

    name: ClassVar[str] = "nq_open"
    domain: ClassVar[str] = "facts"
    data_files: ClassVar[tuple[DataFile, ...]] = (
        DataFile(
            "nq/NQ-open.dev.jsonl",
            f"{_SOURCE}/a7d6452c0905c7772e9fbbb9a20b5fcab07c668f/nq_open/NQ-open.dev.jsonl",
            "f15567f38099f3615f5b8a685c0aef449c11ad90d3da3735e8d1b98115b40616",
        ),
        DataFile(
            "nq/NQ-open.efficientqa.dev.1.1.jsonl",
            f"{_SOURCE}/141e243273035b8b343f61d6ae0a2db8b88af09e/nq_open/NQ-open.efficientqa.dev.1.1.jsonl",
            "0ad45e2fa9fd32d10b3cf08c63e6d22f97ba1a0ce44ea98040f4c18bce7e268d",
        ),
    )
    protocols: ClassVar[tuple[str, ...]] = ("5-shot",)
    all_rules: ClassVar[tuple[ProtocolRules, ...]] = (FIVE_SHOT,)

    @cached_property
    def golds(self) -> dict[str, tuple[str, ...]]:
        """The accepted answers of each question by sample id."""
        return {f"nq_open/{line}": tuple(row["answer"]) for line, row in enumerate(self._questions)}

    @cached_property
    def shots(self) -> str:
        """The five examples; each shows its first accepted answer."""
        pool = self.data_files[1].records(self.data_dir)
        chosen = random.Random(SHOTS_SEED).sample(range(len(pool)), NUM_SHOTS)
        return "".join(f"{_ask(pool[index]['question'])} {pool[index]['answer'][0]}\n\n" for index in chosen)

    def samples(self) -> Sequence[Sample]:
        """Five examples and the question, for the model to continue."""
        return [
            Sample(f"nq_open/{line}", self.shots + _ask(row["question"]), FIVE_SHOT.stops, MAX_NEW_TOKENS)
            for line, row in enumerate(self._questions)
        ]

    def questions(self) -> dict[str, str]:
        """The questions alone."""
        return {f"nq_open/{line}": row["question"] for line, row in enumerate(self._questions)}

    def score(self, answer: Answer) -> Score:
        """Exact match decides; `contains` and F1 stand in `detail`."""
        text = answer_text(answer)
        if answer.completion is not None:
            text = text.lstrip("\n").partition("\n")[0]  # a server may keep what stopped it
        golds = self.golds[answer.sample_id]
        exact = is_exact_match(text, golds)
        contains, f1 = contains_answer(text, golds), best_f1(text, golds)
        detail = {"contains": contains, "f1": f1, "answer": text.strip()[:200]}
        return Score(answer.sample_id, answer.repeat, exact, _status(text, answer, exact=exact), float(exact), detail)

    def summarise(self, scores: Sequence[Score]) -> dict[str, Estimate]:
        """`exact match` first: it is the headline; never compare it with another benchmark's `contains` or `F1`."""
        ids = [score.sample_id for score in scores]
        return {
            "exact match": score_share([score.score or 0.0 for score in scores], ids),
            "contains": score_share([float(score.detail["contains"]) for score in scores], ids),
            "F1": score_share([float(score.detail["f1"]) for score in scores], ids),
        }

    def fingerprint(self) -> dict[str, str]:
        """The rules, and how the examples were drawn."""
        return {"normalisation": RULES_VERSION, "shots": f"{NUM_SHOTS} of {self.data_files[1].path}, seed {SHOTS_SEED}"}

    @cached_property
    def _questions(self) -> list[dict[str, Any]]:
        return self.data_files[0].records(self.data_dir)


def _ask(question: str) -> str:
    return f"Q: {question}?\nA:"


def _status(text: str, answer: Answer, *, exact: bool) -> Status:
    if exact:
        return "ok"
    if not normalise(text):
        return "no_answer"
    return "truncated" if answer.finish_reason == "length" else "wrong"
