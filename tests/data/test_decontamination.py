"""Rows that hold a question of an evaluation set are left out and listed."""

import json

import pytest

from dft_eval.errors import ConfigError, MissingPrerequisite
from dft_plugin.data.columns import RowProblem
from dft_plugin.data.decontamination import Contamination, EvaluationSet, load_evaluation_sets
from tests.data.builds import build_from
from tests.data.upstream import read_jsonl, write_jsonl

WORDS = "a b c d e f g h i j k l m n"  # fourteen
SETS = {"mine": EvaluationSet({"mine/0": WORDS, "mine/1": "Who wrote it?", "mine/2": "+ - ?"}, {})}


def reason(question, prompt="", response=""):
    try:
        Contamination(SETS).check(question, prompt, response)
    except RowProblem as problem:
        return problem.reason, problem.detail.split(":")[0]
    return None


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("who WROTE, it",), ("same_question", "mine/1")),
        (("who wrote it then",), None),
        (("? ? ?",), None),
        (("x", "B, C. d-e f g h i j k l m n!"), ("shared_13_words", "mine/0 in the prompt")),
        (("x", "b c d e f g h i j k l m"), None),  # twelve
        (("x", "y", f"as asked: {WORDS[2:]}"), ("shared_13_words", "mine/0 in the response")),
        (("x", "\uff42 c d e f g h i j k l m n"), ("shared_13_words", "mine/0 in the prompt")),  # a wide letter
        (("x", "b c d e f g i h j k l m n"), None),
    ],
)
def test_two_tests(texts, expected):
    assert reason(*texts) == expected


def test_no_sets_leave_nothing_out():
    Contamination({}).check("a", "b", "c")
    assert load_evaluation_sets([]) == {}


def test_questions_are_the_problems_alone(data_dir):
    sets = load_evaluation_sets(["math500", "gsm8k", "gsm8k_steps", "nq_open", "humaneval", "multipl_e/sh"])
    sizes = {name: len(each.questions) for name, each in sets.items()}
    assert sizes == {
        "math500": 500,
        "gsm8k": 1319,
        "gsm8k_steps": 1319,
        "nq_open": 3610,
        "humaneval": 164,
        "multipl_e/sh": 158,
    }
    assert sets["nq_open"].questions["nq_open/0"] == "when was the last time anyone was on the moon"
    assert sets["gsm8k"].questions["gsm8k/1"].startswith("A robe takes 2 bolts")
    assert "boxed" not in sets["math500"].questions["math500/0"]
    assert sets["humaneval"].questions["HumanEval/0"].startswith("from typing import List")


def test_unknown_tasks_and_absent_data(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="did you mean gsm8k"):
        load_evaluation_sets(["gsm8"])
    monkeypatch.setenv("DFT_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(MissingPrerequisite, match="dft eval fetch math500"):
        load_evaluation_sets(["math500"])


def test_a_build_lists_what_it_removed(data_dir, tmp_path):
    test_rows = read_jsonl(data_dir / "gsm8k" / "test.jsonl")
    train_rows = read_jsonl(data_dir / "gsm8k" / "train.jsonl")[:40]  # row 20 begins as test problem 632 does
    asked = {**test_rows[1], "question": f"Please solve. {test_rows[2]['question']}"}
    file = write_jsonl(tmp_path / "a.jsonl", [*train_rows, test_rows[0], asked])
    manifest = build_from("gsm8k", tmp_path / "out", file, decontaminate=("gsm8k",))
    assert manifest["rows"] == {
        "read": 42,
        "passed": 39,
        "noted": {"same_question": 1, "shared_13_words": 2},
        "written": 39,
    }
    notes = read_jsonl(tmp_path / "out" / "noted_rows.jsonl")
    assert [(note["row"], note["detail"].split(" in ")[0]) for note in notes] == [
        (20, "gsm8k/632"),
        (40, "gsm8k/0"),
        (41, "gsm8k/2"),
    ]
    assert manifest["decontaminated_of"]["gsm8k"]["questions"] == 1319
    assert json.loads((tmp_path / "out" / "manifest.json").read_text()) == manifest


def test_short_questions_in_other_words_of_the_prompt(data_dir, tmp_path):
    dev_rows = read_jsonl(data_dir / "nq" / "NQ-open.dev.jsonl")[:3]
    file = write_jsonl(tmp_path / "a.jsonl", [*dev_rows, {"question": "who wrote book 1", "answer": ["A. 1"]}])
    manifest = build_from("nq-train", tmp_path / "out", file, decontaminate=("nq_open",))
    assert manifest["rows"]["noted"] == {"same_question": 3} and manifest["rows"]["written"] == 1
