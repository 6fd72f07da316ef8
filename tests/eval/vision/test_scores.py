"""The benchmarks' arithmetic against VLMEvalKit's own, and what marks a run as partial."""

import json
import random

import pytest

from dft_eval.errors import ConfigError, MissingPrerequisite
from dft_eval.records.schema import Answer, Score
from dft_eval.run.fetch import locate_data
from dft_eval.run.summary import summarise_problems, summarise_run
from dft_eval.tasks.catalog import TASKS
from dft_eval.tasks.vision.benchmarks import VISION
from dft_eval.tasks.vision.data import read_rows
from tests.eval.vision.conftest import run_in_vlmeval
from tests.eval.vision.small_benchmarks import (
    SmallMathVerse,
    SmallWeMath,
    encode_tsv,
    mathverse_rows,
    wemath_rows,
)

WEMATH_PROGRAM = """
import json, sys
from vlmeval.dataset.utils.wemath import wemath_accuracy, wemath_evaluate_models
results = [wemath_evaluate_models(path) | wemath_accuracy(path) for path in sys.argv[1:]]
print(json.dumps([{name: values[0] for name, values in result.items()} for result in results], default=str))
"""
MATHVERSE_PROGRAM = """
import json, sys
import pandas
from vlmeval.dataset.utils.mathverse import MathVerse_acc
table = MathVerse_acc(sys.argv[1])
overall = 100 * pandas.read_csv(sys.argv[1], sep="\\t")["score"].mean()
print(json.dumps(dict(zip(table["split"], table["Overall"])) | {"overall": overall}))
"""


def open_small(kind, folder, rows=None):
    path = folder / kind.data_files[0].path
    path.parent.mkdir(parents=True)
    path.write_bytes(encode_tsv(rows or kind.small_rows))
    return kind(folder, "rule")


def as_scores(verdicts):
    return [Score(index, 0, right, "ok" if right else "wrong", float(right)) for index, right in verdicts.items()]


def write_results(path, rows, verdicts, column):
    kept = [row | {column: verdicts[row["index"]]} for row in rows if row["index"] in verdicts]
    path.write_bytes(encode_tsv([{name: value for name, value in row.items() if name != "image"} for row in kept]))
    return str(path)


@pytest.mark.slow
def test_wemath_equals_vlmevals_arithmetic(tmp_path, python):
    """525 problems: random verdicts, all right, nearly all wrong, and with questions that nobody answered."""
    rows = wemath_rows(360, 165, images=False)
    task = open_small(SmallWeMath, tmp_path, rows)
    draw = random.Random(0)
    all_verdicts = [{row["index"]: draw.random() < share for row in rows} for share in (0.3, 0.6, 0.9)]
    all_verdicts.append(dict.fromkeys((row["index"] for row in rows), True))
    almost_wrong = {row["index"]: row["key"].endswith("multi") and row["ID"] == "2001" for row in rows}
    all_verdicts.append(almost_wrong)
    gaps = {index: right for index, right in all_verdicts[1].items() if draw.random() < 0.9}
    all_verdicts.append(gaps)
    files = [
        write_results(tmp_path / f"{number}.tsv", rows, {k: int(v) for k, v in verdicts.items()}, "hit")
        for number, verdicts in enumerate(all_verdicts)
    ]
    for verdicts, theirs in zip(all_verdicts, run_in_vlmeval(python, WEMATH_PROGRAM, *files), strict=True):
        ours = {name: f"{value.value:.2%}" for name, value in task.summarise(as_scores(verdicts)).items()}
        names = {"S1": "One-step(S1)", "S2": "Two-step(S2)", "S3": "Three-step(S3)"}
        names |= {"strict": "Score (Strict)", "loose": "Score (Loose)"}
        if verdicts is gaps:  # they give full marks for a problem whose questions nobody answered
            assert float(ours["strict"][:-1]) < float(theirs["Score (Strict)"][:-1])
            continue
        assert ours == {name: theirs[their_name] for name, their_name in names.items()}


@pytest.mark.slow
def test_mathverse_equals_vlmevals_arithmetic(tmp_path, python):
    rows = mathverse_rows(40, images=False)
    task = open_small(SmallMathVerse, tmp_path, rows)
    draw = random.Random(1)
    verdicts = {row["index"]: draw.random() < 0.4 for row in rows}
    file = write_results(tmp_path / "score.tsv", rows, verdicts, "score")
    ours = {name: 100 * value.value for name, value in task.summarise(as_scores(verdicts)).items()}
    theirs = {name.lower(): value for name, value in run_in_vlmeval(python, MATHVERSE_PROGRAM, file).items()}
    assert ours == pytest.approx(theirs, abs=1e-9)


def test_all_wrong_is_zero(tmp_path):
    """VLMEvalKit divides by zero here."""
    task = open_small(SmallWeMath, tmp_path)
    columns = task.summarise(as_scores(dict.fromkeys(task.rows, False)))
    assert {name: value.value for name, value in columns.items()} == dict.fromkeys(columns, 0.0)


def test_a_part_of_wemath_is_partial_and_not_inflated(tmp_path):
    """VLMEvalKit reports 100% for ten right rows."""
    task = open_small(SmallWeMath, tmp_path, wemath_rows(8, 2, images=False))
    scores = as_scores(dict.fromkeys(list(task.rows)[:10], True))
    answers = [Answer(score.sample_id, response="A") for score in scores]
    found = summarise_run(task, task.samples(), answers, scores, num_repeats=1, notes=["--limit 10 of 32 samples"])
    assert found["headline"] is None and "metrics" not in found
    assert found["partial_metrics"]["strict"]["value"] == 0.3  # three whole problems of ten


def test_the_headline_is_the_mean_over_problems(tmp_path):
    draw = random.Random(2)
    for number, (kind, rows) in enumerate(
        ((SmallWeMath, wemath_rows(8, 4, images=False)), (SmallMathVerse, mathverse_rows(9, images=False)))
    ):
        task = open_small(kind, tmp_path / str(number), rows)
        scores = as_scores({index: draw.random() < 0.7 for index in task.rows})
        answers = [Answer(score.sample_id, response="A") for score in scores]
        metrics = summarise_run(task, task.samples(), answers, scores, num_repeats=1)
        problems = summarise_problems(task, task.samples(), scores, metrics)
        assert len(problems["problems"]) == metrics["headline"]["num_items"] == (12 if kind is SmallWeMath else 9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[1].update(image=""), "1 rows have no image: 2"),
        (lambda rows: rows[1].update(image="17"), "1 rows have no image: 2"),
        (lambda rows: rows[2].update(index="1"), "record 3: index '1' is absent, repeated"),
        (lambda rows: [row.pop("key") for row in rows], "has no column key"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, change, message):
    rows = wemath_rows()
    change(rows)
    (tmp_path / "t.tsv").write_bytes(encode_tsv(rows))
    with pytest.raises(ConfigError, match=message):
        read_rows(tmp_path / "t.tsv", ("key",))


def test_an_image_may_stand_for_another_row(tmp_path):
    rows = wemath_rows()
    rows[1]["image"] = "1"
    (tmp_path / "t.tsv").write_bytes(encode_tsv(rows))
    assert [row["index"] for row in read_rows(tmp_path / "t.tsv", ("key",))] == [row["index"] for row in rows]


def test_another_file_than_the_pinned_one_is_refused(small_data):
    """By the md5 that VLMEvalKit publishes."""
    for kind in VISION:
        with pytest.raises(MissingPrerequisite, match=rf"has md5 .*; {kind.data_files[0].md5} is accepted"):
            locate_data(kind.name, kind.data_files)
    assert {kind.name for kind in VISION} <= set(TASKS)


def test_problems_with_missing_questions_are_refused(tmp_path):
    task = open_small(SmallWeMath, tmp_path, wemath_rows()[:-1])
    with pytest.raises(ValueError, match="has the questions"):
        task.summarise([])
    assert json.dumps(task.dataset.describe())
