"""`problems.json`: the values whose mean is the headline, and by which models are compared."""

import json
import random

import pytest

from dft_eval.errors import StoreError, TaskError
from dft_eval.metrics import check_mean, score_share
from dft_eval.records.schema import Score
from dft_eval.run.local_pool import LocalPool
from dft_eval.run.score_run import ScoreRequest, score_file
from dft_eval.run.summary import summarise_problems, summarise_run
from dft_eval.tasks.catalog import TASKS
from tests.conftest import require
from tests.eval.arithmetic import CATALOG, NUM_SAMPLES, write_samples
from tests.eval.problem_tasks import NUM_PROBLEMS, NUM_SHARED, PROBLEM_TASKS

POOL = LocalPool(num_workers=1)

# what code, mathematics and facts read of a score besides its value
DETAIL = {"verdicts": {}, "has_box": True, "truncated": False, "contains": True, "f1": 0.5, "has_mark": True}


def score(folder, samples, task, model="run"):
    return score_file(ScoreRequest(task, samples, folder / model / task), {**CATALOG, **PROBLEM_TASKS}, POOL)


def read(folder, task, model="run"):
    return json.loads((folder / model / task / "problems.json").read_text())


@pytest.mark.usefixtures("arithmetic_data")
def test_one_answer_a_problem(tmp_path):
    metrics = score(tmp_path, write_samples(tmp_path / "s.jsonl"), "arithmetic")
    content = read(tmp_path, "arithmetic")
    assert content["schema_version"] == 1 and content["headline"] == "accuracy"
    assert list(content["problems"])[:3] == ["sum/0+3", "sum/1+4", "sum/2+5"]
    assert list(content["problems"].values())[:4] == [0.0, 1.0, 1.0, 0.0]
    assert sum(content["problems"].values()) / NUM_SAMPLES == metrics["headline"]["value"]


@pytest.mark.usefixtures("arithmetic_data")
def test_samples_of_one_problem_count_once(tmp_path):
    metrics = score(tmp_path, write_samples(tmp_path / "s.jsonl", repeats=2), "shared")
    problems = read(tmp_path, "shared")["problems"]
    assert (
        len(problems) == metrics["headline"]["num_items"] == NUM_PROBLEMS == metrics["pass_at_k"]["pass@1"]["num_items"]
    )
    assert problems["shared"] == pytest.approx(20 / NUM_SHARED)
    by_sample = 1 - len(range(0, NUM_SAMPLES, 3)) / NUM_SAMPLES
    assert metrics["headline"]["value"] == pytest.approx(sum(problems.values()) / 11) != pytest.approx(by_sample)


@pytest.mark.usefixtures("arithmetic_data")
def test_a_problem_may_be_worth_something_else_than_its_mean(tmp_path):
    metrics = score(tmp_path, write_samples(tmp_path / "s.jsonl"), "all_or_half")
    problems = read(tmp_path, "all_or_half")["problems"]
    assert problems["shared"] == 0.5 and metrics["headline"]["value"] == pytest.approx(6.5 / 11)


@pytest.mark.usefixtures("arithmetic_data")
@pytest.mark.parametrize(
    ("task", "complaint"),
    [("by_sample", "over 40 items, and there are 11 problems"), ("inflated", "the mean over 11 problems is 0.6")],
)
def test_a_headline_that_is_no_mean_over_problems_is_refused(tmp_path, task, complaint):
    with pytest.raises(TaskError, match=complaint):
        score(tmp_path, write_samples(tmp_path / "s.jsonl"), task)
    assert (
        not list((tmp_path / "run" / task).glob("*.json.tmp"))
        and not (tmp_path / "run" / task / "metrics.json").exists()
    )


@pytest.mark.usefixtures("arithmetic_data")
def test_a_partial_run_has_none_and_an_earlier_one_is_removed(tmp_path):
    samples = write_samples(tmp_path / "s.jsonl", {5: "!unjudged"})
    score(tmp_path, samples, "arithmetic")
    file = tmp_path / "run/arithmetic/problems.json"
    assert not file.exists()
    file.write_text("{}")
    score(tmp_path, samples, "arithmetic")
    assert not file.exists()
    file.mkdir()
    with pytest.raises(StoreError, match="cannot be removed"):
        score(tmp_path, samples, "arithmetic")


@pytest.mark.parametrize(
    ("by_problem", "value", "num_items"),
    [
        ({"a": 1.0, "b": 0.0}, 0.5 + 2e-9, 2),
        ({"a": 1.0, "b": 0.0}, float("nan"), 2),
        ({"a": 1.0, "b": 0.0}, 0.5, 3),
        ({"a": 1.5, "b": 0.5}, 1.0, 2),
        ({"a": float("nan")}, 0.5, 1),
        ({}, 0.0, 0),
    ],
)
def test_what_is_no_mean_over_the_problems(by_problem, value, num_items):
    with pytest.raises(ValueError, match="problem"):
        check_mean(by_problem, value, num_items)


def test_a_thousand_thirds_are_their_mean():
    by_problem = {str(index): index % 4 / 3 for index in range(1000)}
    estimate = score_share(list(by_problem.values()), list(by_problem))
    check_mean(by_problem, estimate.value, estimate.num_items)


@pytest.mark.parametrize("num_repeats", [1, 3])
@pytest.mark.parametrize("name", [name for name, kind in TASKS.items() if kind.domain != "vision"])
def test_every_headline_is_the_mean_over_its_problems(data_dir, name, num_repeats):
    kind = TASKS[name]
    for file in kind.data_files[:1]:
        require((data_dir / file.path).is_file(), file.path)
    task = kind(data_dir, kind.protocols[0])
    samples, rng, scores = task.samples(), random.Random(0), []
    for sample in samples:
        for repeat in range(num_repeats):
            passed = rng.random() < 0.3
            scores.append(Score(sample.sample_id, repeat, passed, "ok" if passed else "wrong", float(passed), DETAIL))
    metrics = summarise_run(task, samples, (), scores, num_repeats=num_repeats)
    problems = summarise_problems(task, samples, scores, metrics)
    assert metrics["is_complete"] and len(problems["problems"]) == metrics["headline"]["num_items"]
    assert len(problems["problems"]) == len({sample.problem or sample.sample_id for sample in samples})
