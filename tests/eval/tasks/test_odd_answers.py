"""Answers no model should write: a clear status each, and nothing crashes."""

import pytest

from dft_eval.records.schema import Answer

pytestmark = pytest.mark.slow

ODD = {
    "nul": "    return 1\0\n",
    "surrogate": "    return '\ud800'\n",
    "huge": "    # x\n" * 1_400_000,
    "binary": "\x01\x02",
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("name", ["humaneval", "multipl_e/sh", "multipl_e/php", "multipl_e/js", "multipl_e/cpp"])
def test_odd_answers_are_judged(name, kind, open_code_task):
    task = open_code_task(name)
    sample_id = "HumanEval/23" if name == "humaneval" else "HumanEval_23_strlen"
    score = task.score(Answer(sample_id, completion=ODD[kind]))
    assert score.passed is False, score
    assert score.status != "infra_error"


def test_an_empty_answer_is_no_answer(open_code_task):
    score = open_code_task("humaneval").score(Answer("HumanEval/0", completion=" \n"))
    assert (score.passed, score.status, score.score) == (False, "no_answer", 0.0)
