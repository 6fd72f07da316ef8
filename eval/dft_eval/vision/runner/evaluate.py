"""The `evaluate` job: VLMEvalKit's own prompts and rules over given answers, verdicts read row by row."""

from __future__ import annotations

import ast
import os
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dft_eval.vision.runner import Emit, rows
from dft_eval.vision.runner.equality import Equality
from dft_eval.vision.runner.judge import Judge, JudgeDownError

Verdict = Mapping[str, Any]

_NAME = "judge"  # of the judging model in file names
_ALL_FAILED = "All 5 retries failed.\n"
_RANDOM = "Match Log: Failed to predict, thus randomly generate one. . "
_TEXTS = {"prediction": str, "extract": str, "res": str}


def evaluate(folder: Path, job: Mapping[str, Any], emit: Emit) -> None:
    """Judge `answers`; one message `verdict` a row, `passed` is None where the judge gave none.

    Raises:
        JudgeDownError: too many prompts went without a reply.
        ValueError: an answer did not survive VLMEvalKit's files.
    """
    from vlmeval.smp import dump, load

    dataset = rows.build(folder, job)
    table = rows.select(dataset, job["answers"])
    table = table.drop(columns="image").assign(prediction=[job["answers"][str(i)] for i in table["index"]])
    judge = Judge(job["judge"], job["cache"], emit)
    equality = Equality()
    here = Path.cwd()
    with tempfile.TemporaryDirectory(dir=folder) as work, _exact_texts(), _patched(judge, equality):
        os.chdir(work)  # VLMEvalKit replaces the ending anywhere in a path
        try:
            file = f"model_{job['dataset']}.tsv"
            dump(table, file)
            _check_round_trip(load(file), job["answers"])
            result = Path(f"model_{job['dataset']}_{_NAME}{_SUFFIXES[job['class']]}.tsv")
            try:
                dataset.evaluate(file, model=_NAME, nproc=job["judge"]["concurrency"])
            except JudgeDownError:
                raise
            except Exception:  # WeMath divides by the number of solved groups, which may be none
                if not result.exists():
                    raise
                traceback.print_exc()
            for _, line in load(str(result)).iterrows():
                emit({"verdict": {"id": str(line["index"]), **_READERS[job["class"]](line)}})
        finally:
            os.chdir(here)
            equality.close()


def _read_mathverse(line: Any) -> Verdict:
    failed = line["log_extract"].endswith(_ALL_FAILED) or line["log_score"].endswith(_ALL_FAILED)
    return {"passed": None if failed else bool(line["score"]), "extracted": line["extract"]}


def _read_mathvision(line: Any) -> Verdict:
    from vlmeval.dataset.utils.mathv import post_check

    failed = line["log"].endswith(_ALL_FAILED)
    return {"passed": None if failed else bool(post_check(line)), "extracted": line["res"]}


def _read_wemath(line: Any) -> Verdict:
    return {"passed": None if line["log"] == _RANDOM else bool(line["hit"]), "extracted": ""}


_SUFFIXES = {"MathVerse": "_score", "MathVision": "", "WeMath": ""}
_READERS = {"MathVerse": _read_mathverse, "MathVision": _read_mathvision, "WeMath": _read_wemath}


@contextmanager
def _patched(judge: Judge, equality: Equality) -> Iterator[None]:
    """VLMEvalKit asks our judge, and evaluates no text as a program."""
    from vlmeval.dataset import image_mcq, image_vqa
    from vlmeval.dataset.utils import mathv

    def is_equal(answer: object, gold: object) -> bool:
        return equality.are_equal(answer, gold)

    def build_judge(**settings: object) -> Judge:
        return judge

    places: list[tuple[Any, str, Any]] = [
        (image_vqa, "build_judge", build_judge),
        (image_mcq, "build_judge", build_judge),
        (mathv, "is_equal", is_equal),
        (mathv, "eval", ast.literal_eval),
    ]
    before = [vars(module).get(name) for module, name, _ in places]
    for module, name, value in places:
        setattr(module, name, value)
    try:
        yield
    finally:
        for (module, name, _), value in zip(places, before, strict=True):
            if value is None:
                delattr(module, name)
            else:
                setattr(module, name, value)


@contextmanager
def _exact_texts() -> Iterator[None]:
    """Tables come back with the texts that were written: `1.0`, `NA` and an empty answer stay what they are."""
    import pandas

    read_csv = pandas.read_csv

    def read_exactly(*arguments: Any, **options: Any) -> Any:
        return read_csv(*arguments, converters=_TEXTS, **options)

    pandas.read_csv = read_exactly
    try:
        yield
    finally:
        pandas.read_csv = read_csv


def _check_round_trip(table: Any, answers: Mapping[str, str]) -> None:
    found = {str(index): text for index, text in zip(table["index"], table["prediction"], strict=True)}
    for row, text in answers.items():
        if found.get(row) != text:
            raise ValueError(f"the answer to row {row} did not survive VLMEvalKit's file")
