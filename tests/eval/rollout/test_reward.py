"""Rewards are verdicts: 1 and 0, in the order of the answers, and never made up."""

import pytest

from dft_eval.errors import StoreError
from dft_eval.rollout.reward import rewards
from dft_eval.tasks.math import grader


@pytest.fixture(autouse=True, scope="module")
def no_grader_stays():
    yield
    grader.close_graders()


def test_right_answers_get_one():
    responses = ["It is \\boxed{5}.", "\\boxed{6}", "", "so \\frac{1}{2}"]
    assert rewards(responses, ["5", "5", "5", ["2", "0.5"]], "math") == [1.0, 0.0, 0.0, 1.0]
    assert rewards(["Paris", "Rome"], [["paris", "Lutetia"], "Lyon"], "short_answer") == [1.0, 0.0]
    assert rewards(["The answer is B."], ["B"], "choice") == [1.0]


def test_answers_and_references_must_go_together():
    with pytest.raises(ValueError, match=r"1 responses, but 2 references"):
        rewards(["5"], ["5", "6"], "math")


def test_an_answer_that_cannot_be_graded_has_no_reward(monkeypatch):
    monkeypatch.setattr(grader, "_START", "raise SystemExit(1)  # {path!r}")  # the machine's fault
    grader.close_graders()
    with pytest.raises(StoreError, match=r"could not be graded"):
        rewards(["5"], ["5"], "math")
