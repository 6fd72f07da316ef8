"""The five mathematics benchmarks of the paper's Tables 1 and 2: average@k of final answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

from dft_eval.end_tokens import answer_text
from dft_eval.metrics import Estimate, score_share
from dft_eval.prerequisites import Missing
from dft_eval.records.schema import Answer, Sample, Score, Status
from dft_eval.tasks.base import DataFile, Task
from dft_eval.tasks.math.golds import normalise_answer, read_gold
from dft_eval.tasks.math.grader import describe_grader, grade_response, is_installed
from dft_eval.tasks.math.worker import Rules
from dft_eval.tasks.protocol_rules import ProtocolRules

MAX_NEW_TOKENS = 4096
STOPS = ("</s>", "<|im_end|>", "<|endoftext|>")
_SOURCE = "https://raw.githubusercontent.com/yongliang-wu/DFT/e153181/math_evaluation/data"
_QWEN_BOXED = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n{problem}\nPlease reason step by step, and put your final answer within \\boxed{{}}.<|im_end|>\n"
    "<|im_start|>assistant\n"
)
_MATH_READING = "the last box, else what the text ends with"
_MATH_VERDICT = "equal by math-verify with this project's normaliser; average@k"
_MATH_CUT = "at the first end token; the stop texts are end tokens too"
QWEN_BOXED = ProtocolRules(
    name="qwen-boxed",
    interface="completion",
    prompt=_QWEN_BOXED.replace("\n", "\\n").replace("{{}}", "{}"),
    cut=_MATH_CUT,
    reading=_MATH_READING,
    verdict=_MATH_VERDICT,
    source="the paper's evaluation: Qwen2.5-Math's chat format written out as text, for every model",
    stops=STOPS,
)
MATH_RULES = (
    QWEN_BOXED,
    replace(QWEN_BOXED, name="bare", prompt="{problem}", source="the paper's training prompt"),
    replace(
        QWEN_BOXED,
        name="bare-chat",
        interface="chat",
        prompt="{problem}",
        source="the paper's training prompt, through the model's own chat template",
    ),
    replace(
        QWEN_BOXED,
        name="qwen-compat",
        reading="as Qwen2.5-Math's evaluation reads",
        verdict="equal by the rules of Qwen2.5-Math's evaluation, wrong as some of them are",
        source="Qwen2.5-Math's evaluation, written anew",
    ),
)


class MathTask(Task):
    r"""Problems with one final answer each.

    Protocols: `qwen-boxed` asks in Qwen's chat format, written out as text, for an answer in `\boxed{}`, as the
    paper's evaluation does for every model; `bare` gives the problem alone, `bare-chat` the same as a chat message.
    `qwen-compat` asks like `qwen-boxed` and grades by the rules of that evaluation, wrong as some of them are: for
    figures that stand beside the paper's, see `math_qwen_compat`.
    """

    domain: ClassVar[str] = "mathematics"
    protocols: ClassVar[tuple[str, ...]] = ("qwen-boxed", "bare", "bare-chat", "qwen-compat")
    chat_protocols: ClassVar[tuple[str, ...]] = ("bare-chat",)
    all_rules: ClassVar[tuple[ProtocolRules, ...]] = MATH_RULES
    qwen_rules: ClassVar[Rules] = "qwen_compat"

    @cached_property
    def golds(self) -> dict[str, str]:
        """The reference of each problem by sample id: normalised, but for Qwen's rules, which have their own ways."""
        golds = {f"{self.name}/{line}": read_gold(self.name, row) for line, row in enumerate(self._rows)}
        if self._rules != "math_verify":
            return golds
        return {sample_id: normalise_answer(gold) for sample_id, gold in golds.items()}

    def samples(self) -> Sequence[Sample]:
        """The problems under the protocol, in the file's order."""
        return [
            Sample(f"{self.name}/{line}", self._prompt(_problem(row)), STOPS, MAX_NEW_TOKENS)
            for line, row in enumerate(self._rows)
        ]

    def questions(self) -> dict[str, str]:
        """The problems alone."""
        return {f"{self.name}/{line}": _problem(row) for line, row in enumerate(self._rows)}

    def missing(self) -> Sequence[Missing]:
        """The grader's libraries."""
        return () if is_installed() else (Missing("math-verify", "pip install 'dft-plugin[eval]'"),)

    def score(self, answer: Answer) -> Score:
        """Grade the last boxed answer; where there is no box, what the text ends with, as the rules have it."""
        verdict = grade_response(self.golds[answer.sample_id], answer_text(answer), self._rules)
        status: Status = verdict.pop("status")
        was_cut = answer.finish_reason == "length"
        if was_cut and status in ("wrong", "no_answer"):
            status = "truncated"
        passed = status == "ok"
        detail = verdict | {"truncated": was_cut}
        return Score(answer.sample_id, answer.repeat, passed, status, float(passed), detail)

    def summarise(self, scores: Sequence[Score]) -> dict[str, Estimate]:
        """`average@k`, exact and as the paper's evaluation rounds it; the shares of truncated and unboxed answers."""
        ids = [score.sample_id for score in scores]
        runs: dict[int, list[float]] = {}
        for score in scores:
            runs.setdefault(score.repeat, []).append(score.score or 0.0)
        k = len(runs)
        columns = {f"average@{k}": score_share([score.score or 0.0 for score in scores], ids)}
        if len({len(run) for run in runs.values()}) == 1:
            rounded = sum(round(100 * sum(run) / len(run), 1) for run in runs.values()) / k / 100
            name = f"average@{k} (paper: each run rounded to 0.1)"
            columns[name] = Estimate(rounded, None, None, k, "mean of runs rounded to 0.1 points, no interval")
        boxed = [float(score.passed is True and score.detail["has_box"]) for score in scores]
        columns["boxed and right"] = score_share(boxed, ids)
        columns["without a box"] = score_share([float(not score.detail["has_box"]) for score in scores], ids)
        columns["truncated"] = score_share([float(score.detail["truncated"]) for score in scores], ids)
        return columns

    def fingerprint(self) -> dict[str, str]:
        """The grader and its libraries: the score depends on their versions."""
        return describe_grader(self._rules)

    @property
    def _rules(self) -> Rules:
        return self.qwen_rules if self.protocol == "qwen-compat" else "math_verify"

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        return self.data_files[0].records(self.data_dir)

    def _prompt(self, problem: str) -> str | tuple[dict[str, str], ...]:
        if self.protocol == "bare-chat":
            return ({"role": "user", "content": problem},)
        return problem if self.protocol == "bare" else _QWEN_BOXED.format(problem=problem)


def _problem(row: dict[str, Any]) -> str:
    text: str = row["question"] if "question" in row else row["problem"]
    return text.strip()


def _file(name: str, sha256: str) -> tuple[DataFile, ...]:
    return (DataFile(f"math/{name}.jsonl", f"{_SOURCE}/{name}/test.jsonl", sha256),)


class Math500(MathTask):
    """500 problems of MATH (Hendrycks et al. 2021; Lightman et al. 2023)."""

    name: ClassVar[str] = "math500"
    data_files: ClassVar[tuple[DataFile, ...]] = _file(
        "math_oai", "a239272930e5202bf1d5275f7fa475a56687c775a61f1354a6d3371bf9dd7a94"
    )


class MinervaMath(MathTask):
    """272 problems of MIT courses (Lewkowycz et al. 2022)."""

    name: ClassVar[str] = "minerva_math"
    qwen_rules: ClassVar[Rules] = "qwen_compat_with_units"
    data_files: ClassVar[tuple[DataFile, ...]] = _file(
        "minerva_math", "0e656b430d3a0a1dab6aa853f453ba3805e28e2cabe4fc72486a897cc09d8ba2"
    )


class OlympiadBench(MathTask):
    """675 text-only problems with final answers (He et al. 2024)."""

    name: ClassVar[str] = "olympiadbench"
    data_files: ClassVar[tuple[DataFile, ...]] = _file(
        "olympiadbench", "bb8c1e38a16ea9eacb77530315a674d883f267fbff79183effc53681b4fcc416"
    )


class Aime24(MathTask):
    """The 30 problems of AIME 2024."""

    name: ClassVar[str] = "aime24"
    data_files: ClassVar[tuple[DataFile, ...]] = _file(
        "aime24", "af2b8bd2aa911b6333ad0df32f3ca05c7ae8ed10f1731f4372c8ae26990bf7ac"
    )


class Amc23(MathTask):
    """40 problems of AMC 12 2023, answers as numbers."""

    name: ClassVar[str] = "amc23"
    data_files: ClassVar[tuple[DataFile, ...]] = _file(
        "amc23", "43707e1ca784602d8479de24ee8ce36609dbebc46dd152b0b12a46611aa898a4"
    )


MATH: tuple[type[MathTask], ...] = (Math500, MinervaMath, OlympiadBench, Aime24, Amc23)
