"""MathVerse, MathVision and WeMath as VLMEvalKit has them: the paper's Table 4 (arXiv 2508.05629)."""

from __future__ import annotations

import ast
import re
import string
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from dft_eval.backends.base import Backend
from dft_eval.backends.resources import Resources
from dft_eval.metrics import Estimate, score_share
from dft_eval.prerequisites import Missing
from dft_eval.records.schema import Answer, Sample, Score, Status
from dft_eval.tasks.base import DataFile, Executor, Task, TaskSettings
from dft_eval.tasks.math.grader import describe_grader, is_installed
from dft_eval.tasks.vision.data import read_rows
from dft_eval.tasks.vision.rules import RULES_VERSION, grade_choice, grade_value
from dft_eval.tasks.vision.wemath import WemathProblem, group_rows, mark
from dft_eval.vision.backend import VlmevalBackend, VlmevalModel
from dft_eval.vision.dataset import VlmevalDataset
from dft_eval.vision.judge import VlmevalJudge
from dft_eval.vision.prerequisites import (
    check_backend,
    check_judge,
    describe_images,
    describe_judge,
    describe_vlmeval,
)
from dft_eval.vision.process import VLMEVAL_VERSION, VlmevalProcess, find_python

MAX_NEW_TOKENS = 2048
_SOURCE = "https://opencompass.openxlab.space/utils"
_CHOICE = re.compile(r"^\s*([A-I])\s*[:.]\s*(.*?)\s*$", re.MULTILINE)


class VisionTask(Task):
    """Questions about images, asked through VLMEvalKit.

    Protocols: `rule` grades by our own rules, `judge` by VLMEvalKit's with a judging model.
    """

    domain: ClassVar[str] = "vision"
    protocols: ClassVar[tuple[str, ...]] = ("rule", "judge")
    chat_protocols: ClassVar[tuple[str, ...]] = ("rule", "judge")
    dataset_name: ClassVar[str]
    """VLMEvalKit's name of the benchmark."""
    dataset_class: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]
    max_judge_calls: ClassVar[int] = 1
    """Calls of a judge for an answer, at most, where each reply can be read."""

    @cached_property
    def rows(self) -> dict[str, dict[str, str]]:
        """The file's rows by sample id, without images."""
        path = self.data_dir / self.data_files[0].path
        return {row["index"]: row for row in read_rows(path, self.columns)}

    def samples(self) -> Sequence[Sample]:
        """The questions in the file's order; VLMEvalKit adds the images when it asks."""
        return [
            Sample(index, ({"role": "user", "content": row["question"]},), (), MAX_NEW_TOKENS, self._problem(row))
            for index, row in self.rows.items()
        ]

    def missing(self) -> Sequence[Missing]:
        """The grader's libraries, for the rules."""
        if self.protocol == "judge" or is_installed():
            return ()
        return (Missing("math-verify", "pip install 'dft-plugin[eval]'"),)

    @property
    def judge_calls_per_answer(self) -> int:
        """None under the rules."""
        return self.max_judge_calls if self.protocol == "judge" else 0

    @property
    def dataset(self) -> VlmevalDataset:
        """The benchmark as VLMEvalKit's process builds it."""
        tsv, ids = self.data_dir / self.data_files[0].path, tuple(self.rows)
        return VlmevalDataset(self.name, self.dataset_name, self.dataset_class, tsv, ids, self.max_judge_calls)

    def check_settings(self, settings: TaskSettings) -> None:
        """Refuse what VLMEvalKit cannot ask, and the protocol `judge` without a judge."""
        if self.protocol == "judge":
            check_judge(settings.vision)
        if settings.backend is None:
            return
        if settings.backend.model_at != "nowhere":
            check_backend(settings.backend, settings.sampling, settings.models)
        if self._uses_vlmeval(settings):
            find_python(settings.vision.python)

    def describe_settings(self, settings: TaskSettings) -> dict[str, Any]:
        """Return image limits and judge; VLMEvalKit always asks in a chat."""
        described: dict[str, Any] = {}
        if settings.backend is not None:
            described = {"interface": "chat", **describe_images(settings.vision, settings.backend)}
        return described | (describe_judge(settings.vision) if self.protocol == "judge" else {})

    def describe_environments(self, settings: TaskSettings) -> list[dict[str, Any]]:
        """Return the environment of VLMEvalKit, where a run uses it."""
        return [describe_vlmeval(settings.vision)] if self._uses_vlmeval(settings) else []

    def open_backend(self, model: str, settings: TaskSettings, resources: Resources) -> Backend:
        """Ask through VLMEvalKit's process, unless answers are replayed."""
        if settings.backend is None or settings.backend.model_at == "nowhere":
            return super().open_backend(model, settings, resources)
        backend = check_backend(settings.backend, settings.sampling, [model])
        process = resources.keep(VlmevalProcess, settings.vision.python)
        asked = resources.load(VlmevalModel, model, backend, settings.vision, settings.sampling, process)
        return VlmevalBackend(self.dataset, asked)

    def choose_executor(
        self, executor: Executor, folder: Path, num_answers: int, settings: TaskSettings, resources: Resources
    ) -> Executor:
        """Take VLMEvalKit's scorer and the judge under the protocol `judge`."""
        if self.protocol != "judge" or settings.vision.judge is None:
            return executor
        process = resources.keep(VlmevalProcess, settings.vision.python)
        return VlmevalJudge(self.dataset, settings.vision.judge, process, folder, num_answers)

    def _uses_vlmeval(self, settings: TaskSettings) -> bool:
        return settings.backend is not None and (self.protocol == "judge" or settings.backend.model_at != "nowhere")

    def score(self, answer: Answer) -> Score:
        """Grade by rules; a judge's verdicts come from elsewhere."""
        if self.protocol != "rule":
            raise TypeError("answers under the protocol `judge` go to VlmevalJudge")
        verdict = self._apply_rules(self.rows[answer.sample_id], answer.text)
        status: Status = verdict.pop("status")
        if answer.finish_reason == "length" and status in ("wrong", "no_answer"):
            status = "truncated"
        passed = status == "ok"
        return Score(answer.sample_id, answer.repeat, passed, status, float(passed), {"judge": "rule", **verdict})

    def fingerprint(self) -> dict[str, str]:
        """Return the source of rules and prompts, with versions."""
        if self.protocol == "rule":
            return {"scorer": f"rule {RULES_VERSION}", **describe_grader()}
        return {"scorer": "VLMEvalKit's prompts to the judge and rules", "ms-vlmeval": VLMEVAL_VERSION}

    def _problem(self, row: Mapping[str, str]) -> str:
        return ""

    @abstractmethod
    def _apply_rules(self, row: Mapping[str, str], text: str) -> dict[str, Any]:
        """`status` and what to note beside it."""


class MathVerse(VisionTask):
    """3,940 questions: 788 problems, each with five shares of text and image (Zhang et al. 2024)."""

    name: ClassVar[str] = "mathverse"
    dataset_name: ClassVar[str] = "MathVerse_MINI"
    dataset_class: ClassVar[str] = "MathVerse"
    columns: ClassVar[tuple[str, ...]] = ("question", "answer", "problem_version", "question_for_eval", "metadata")
    data_files: ClassVar[tuple[DataFile, ...]] = (
        DataFile(
            "vlmeval/MathVerse_MINI.tsv",
            f"{_SOURCE}/benchmarks/MathVerse/MathVerse_MINIV.tsv",
            md5="5017caca32b7fa110c350a1bea861b65",
        ),
    )
    max_judge_calls: ClassVar[int] = 2
    reported: ClassVar[tuple[str, ...]] = ("vision only", "vision intensive", "vision dominant")

    def summarise(self, scores: Sequence[Score]) -> dict[str, Estimate]:
        """Accuracy over all questions, then over those of each version."""
        versions: dict[str, list[Score]] = {"overall": list(scores)}
        for score in scores:
            versions.setdefault(self.rows[score.sample_id]["problem_version"].lower(), []).append(score)
        return {
            version: score_share(
                [score.score or 0.0 for score in chosen],
                [self._problem(self.rows[score.sample_id]) or score.sample_id for score in chosen],
            )
            for version, chosen in versions.items()
        }

    def _problem(self, row: Mapping[str, str]) -> str:
        """The five versions of a problem share its uncertainty."""
        return row.get("problem_index", "")

    def _apply_rules(self, row: Mapping[str, str], text: str) -> dict[str, Any]:
        letters = dict(_CHOICE.findall(row["question_for_eval"].partition("Choices:")[2]))
        gold = row["answer"].strip()
        return grade_choice(letters, gold, text) if gold in letters else grade_value(gold, text)


class MathVision(VisionTask):
    """3,040 problems of competitions (Wang et al. 2024)."""

    name: ClassVar[str] = "mathvision"
    dataset_name: ClassVar[str] = "MathVision"
    dataset_class: ClassVar[str] = "MathVision"
    columns: ClassVar[tuple[str, ...]] = ("question", "answer", "choices", "category")
    data_files: ClassVar[tuple[DataFile, ...]] = (
        DataFile(
            "vlmeval/MathVision.tsv",
            f"{_SOURCE}/VLMEval/MathVision.tsv",
            md5="93f6de14f7916e598aa1b7165589831e",
        ),
    )

    def summarise(self, scores: Sequence[Score]) -> dict[str, Estimate]:
        """Accuracy over all problems."""
        ids = [score.sample_id for score in scores]
        return {"accuracy": score_share([score.score or 0.0 for score in scores], ids)}

    def _apply_rules(self, row: Mapping[str, str], text: str) -> dict[str, Any]:
        choices = ast.literal_eval(row["choices"]) if row["choices"] else []
        if not choices:
            return grade_value(row["answer"], text)
        letters = {letter: str(choice) for letter, choice in zip(string.ascii_uppercase, choices, strict=False)}
        return grade_choice(letters, row["answer"].strip(), text)


class WeMath(VisionTask):
    """1,740 questions of 525 problems, each asked whole and step by step (Qiao et al. 2024)."""

    name: ClassVar[str] = "wemath"
    dataset_name: ClassVar[str] = "WeMath"
    dataset_class: ClassVar[str] = "WeMath"
    columns: ClassVar[tuple[str, ...]] = ("question", "answer", "ID", "key", "knowledge concept", "A", "B")
    data_files: ClassVar[tuple[DataFile, ...]] = (
        DataFile("vlmeval/WeMath.tsv", f"{_SOURCE}/VLMEval/WeMath.tsv", md5="b5e969a075f01290a542411fb7766388"),
    )
    reported: ClassVar[tuple[str, ...]] = ("loose", "S1", "S2", "S3")

    @cached_property
    def problems(self) -> list[WemathProblem]:
        """The questions of each problem."""
        return group_rows(list(self.rows.values()))

    def summarise(self, scores: Sequence[Score]) -> dict[str, Estimate]:
        """The strict and the loose score over all problems of the benchmark, whatever was judged of it.

        Then accuracy on questions about one step, and on wholes of two and of three steps.
        """
        is_right = {score.sample_id: bool(score.passed) for score in scores}
        names = [problem.name for problem in self.problems]
        columns = {
            name: score_share([mark(problem, is_right, strict=strict) for problem in self.problems], names)
            for name, strict in (("strict", True), ("loose", False))
        }
        parts = {
            "S1": [step for problem in self.problems for step in problem.steps],
            "S2": [problem.whole for problem in self.problems if len(problem.steps) == 2],
            "S3": [problem.whole for problem in self.problems if len(problem.steps) == 3],
        }
        for name, ids in parts.items():
            if judged := [sample_id for sample_id in ids if sample_id in is_right]:
                columns[name] = score_share([float(is_right[sample_id]) for sample_id in judged], judged)
        return columns

    def problem_scores(self, scores: Sequence[Score]) -> dict[str, float]:
        """The strict mark of each problem."""
        is_right = {score.sample_id: bool(score.passed) for score in scores}
        return {problem.name: mark(problem, is_right, strict=True) for problem in self.problems}

    def _problem(self, row: Mapping[str, str]) -> str:
        return f"{row['key'].partition('steps_')[0]}steps {row['ID']}"

    def _apply_rules(self, row: Mapping[str, str], text: str) -> dict[str, Any]:
        letters = {letter: row[letter] for letter in string.ascii_uppercase[:8] if row.get(letter)}
        return grade_choice(letters, row["answer"].strip(), text)


VISION: tuple[type[VisionTask], ...] = (MathVerse, MathVision, WeMath)
