"""Judging without a judge: choices and values as models write them."""

import pytest

from dft_eval.tasks.vision.rules import grade_choice, grade_value

LETTERS = {"A": "2", "B": "2\\sqrt{3}", "C": "\\sqrt{3}", "D": "2 cm"}


@pytest.mark.parametrize(
    ("response", "chosen"),
    [
        ("\\boxed{B}", "B"),
        ("\\boxed{\\text{B}}", "B"),
        ("\\boxed{(B)}", "B"),
        ("\\boxed{B: 2\\sqrt{3}}", "B"),
        ("\\boxed{\\textbf{(B) }2\\sqrt{3}}", "B"),
        ("$\\boxed{2\\sqrt{3}}$", "B"),
        ("\\boxed{2\\text{ cm}}", "D"),
        ("The answer is B.", "B"),
        ("The answer is: (B)", "B"),
        ("**Answer:** B", "B"),
        ("So the correct option is **C**.", "C"),
        ("First A looked right, the answer is A. No: the answer is C", "C"),
        ("I think about it.\nB", "B"),
        ("I think about it.\n(B).", "B"),
        ("B", "B"),
        ("The answer is a triangle", ""),
        ("Answer: Because of that", ""),
        ("A square is a rectangle", ""),
        ("\\boxed{E}", ""),
        ("\\boxed{7}", ""),
        ("the answer is 2", ""),
        ("", ""),
        ("\\boxed{B", ""),
    ],
)
def test_choices(response, chosen):
    verdict = grade_choice(LETTERS, "B", response)
    assert verdict == {"status": "ok" if chosen == "B" else "wrong" if chosen else "no_answer", "answer": chosen}


@pytest.mark.parametrize(
    ("gold", "response", "status"),
    [
        ("7", "\\boxed{7}", "ok"),
        ("7", "it is 7.0, so \\boxed{7.0}", "ok"),
        ("\\frac{1}{2}", "\\boxed{0.5}", "ok"),
        ("Yes", "\\boxed{yes}", "ok"),
        ("60°", "\\boxed{60°}", "ok"),
        ("7", "\\boxed{8}", "wrong"),
        ("7", "", "no_answer"),
        ("7", "\\boxed{9^{9^{9^{9}}}}", None),
        ("7", "\\boxed{" + "(" * 50_000 + "7", None),
        ("7", "\\frac{1}{" * 100_000, None),
    ],
)
def test_values(gold, response, status):
    found = grade_value(gold, response)["status"]
    assert found == status or (status is None and found != "ok")
