"""Natural Questions on its real files: every accepted answer is reachable, nothing else is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dft_eval.records.schema import Answer
from dft_eval.run.score_answer import score_answer
from dft_eval.tasks.catalog import TASKS
from dft_eval.tasks.facts.short_answers import best_f1, contains_answer, is_exact_match, normalise


@pytest.fixture(scope="module")
def task(data_dir):
    return TASKS["nq_open"](data_dir, "5-shot")


def test_prompts(task):
    samples = task.samples()
    assert len(samples) == 3610 and [s.sample_id for s in samples[:2]] == ["nq_open/0", "nq_open/1"]
    prompt = samples[0].prompt
    assert prompt.count("Q: ") == 6 and prompt.endswith("Q: when was the last time anyone was on the moon?\nA:")
    assert all(sample.stop == ("\n",) and sample.prompt.startswith(task.shots) for sample in samples)
    # the pool is disjoint from the questions, and every example was taken from it
    questions = {sample.prompt.rpartition("Q: ")[2] for sample in samples}
    pool = {f"{row['question']}?" for row in task.data_files[1].records(task.data_dir)}
    shown = [line.removeprefix("Q: ") for line in task.shots.splitlines() if line.startswith("Q: ")]
    assert len(set(shown)) == 5 and set(shown) <= pool and not {f"{q}\nA:" for q in pool} & questions
    assert TASKS["nq_open"](task.data_dir, "5-shot").shots == task.shots


DISGUISES = {
    "as it is": str,
    "upper case": str.upper,
    "lower case": str.lower,
    "articles": lambda gold: f"The {gold}",
    "upper-case articles": lambda gold: f"THE {gold.upper()}",
    "spaces": lambda gold: f"  {gold.replace(' ', '   ')} ",
}


@pytest.mark.parametrize("disguise", DISGUISES.values(), ids=DISGUISES)
def test_every_accepted_answer_of_every_question_scores_100(task, disguise):
    missed = [
        (sample_id, gold)
        for sample_id, golds in task.golds.items()
        for gold in golds
        if not is_exact_match(disguise(gold), golds)
    ]
    assert missed == []


def test_an_oracle_scores_exactly_100(task):
    answers = [Answer(sample_id, completion=f" {golds[0]}\n\nQ: next?") for sample_id, golds in task.golds.items()]
    columns = task.summarise([score_answer(task, answer) for answer in answers])
    assert len(answers) == 3610 and list(columns) == ["exact match", "contains", "F1"]
    assert [estimate.value for estimate in columns.values()] == [1.0, 1.0, 1.0]


def test_an_answer_to_another_question_scores_next_to_nothing(task):
    ids = list(task.golds)
    scores = [
        score_answer(task, Answer(sample_id, completion=task.golds[ids[index - 1]][0]))
        for index, sample_id in enumerate(ids)
    ]
    assert task.summarise(scores)["exact match"].value < 0.005


@pytest.mark.parametrize("text", ["", " ", "\n", "the", "A", "...", "\0", "?!"])
def test_nothing_is_no_answer_to_any_question(task, text):
    if text == "A":  # somebody's right answer
        text = "a the an"
    scores = [score_answer(task, Answer(sample_id, completion=text)) for sample_id in task.golds]
    assert not any(score.passed for score in scores)
    if text.strip("\0"):
        assert {score.status for score in scores if not normalise(text)} <= {"no_answer"}


def test_normalisation():
    assert normalise("  The U.S.A.,  an \tAnswer ") == "usa answer"
    assert normalise("THE Café") == normalise("the cafe\u0301") != normalise("the cafe")
    assert normalise("Athens") == "athens" and normalise("A, B") == "b"


def test_contains_and_f1_stand_beside_exact_match(task):
    golds = ("14 December 1972 UTC", "December 1972")
    assert not is_exact_match("It was in December 1972.", golds)
    assert contains_answer("It was in December 1972.", golds) and not contains_answer("December 19725", golds)
    assert best_f1("It was in December 1972.", golds) == pytest.approx(4 / 7)
    assert best_f1("never", golds) == 0.0
    score = score_answer(task, Answer("nq_open/0", completion=" It was in December 1972.", finish_reason="stop"))
    assert (score.passed, score.status, score.detail["contains"]) == (False, "wrong", True)


def test_statuses(task):
    def status(text, **fields):
        return score_answer(task, Answer("nq_open/0", completion=text, **fields)).status

    assert status("December 1972", finish_reason="length") == "ok"
    assert status("I think that the", finish_reason="length") == "truncated"
    assert score_answer(task, Answer("nq_open/0", response="December 1972")).status == "ok"


@pytest.mark.slow
def test_the_command_scores_an_oracle(task, tmp_path, monkeypatch):
    monkeypatch.setenv("DFT_DATA_DIR", str(task.data_dir))
    samples = tmp_path / "oracle.jsonl"
    lines = [json.dumps({"sample_id": i, "answer": golds[-1]}) + "\n" for i, golds in task.golds.items()]
    samples.write_text("".join(lines))
    dft = Path(sys.executable).with_name("dft")
    command = [dft, "eval", "score", "--task", "nq_open", "--samples", samples, "--out", tmp_path / "run", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["headline"]["value"] == 1.0
