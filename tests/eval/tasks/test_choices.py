"""The letter a response chooses, however it says so."""

import pytest

from dft_eval.tasks.choices import find_choice
from dft_eval.tasks.vision.rules import grade_choice, grade_value

LETTERS = {"A": "30°", "B": "45°", "C": "60^\\circ", "D": "12 cm"}


@pytest.mark.parametrize(
    ("response", "chosen"),
    [
        ("Answer: A. Option B is wrong.", "A"),
        ("\\boxed{$B$}", "B"),
        ("\\boxed{B.}", "B"),
        ("\\boxed{\\textbf{(B)}}", "B"),
        ("B. 45°", "B"),
        ("(B) 45°", "B"),
        ("\\boxed{45^\\circ}", "B"),
        ("\\boxed{60°}", "C"),
        ("\\boxed{12\\text{ cm}}", "D"),
        ("The answer is **(C)**.", "C"),
        ("<answer>C</answer>", "C"),
        ("I choose option D.", "D"),
        ("I would go with B.", "B"),
        ("Therefore, option C is correct.", "C"),
        ("(C) is the correct answer.", "C"),
        ("The final answer is: B", "B"),
        ("The answer is not B. The answer is C.", "C"),
        ("The answer is C, not B.", "C"),
        ("Option A is correct. The answer is not B.", "A"),
        ("The answer is A or B.", None),
        ("The answer is either A or B", None),
        ("\\boxed{A or B}", None),
        ("\\boxed{}. The answer is D", "D"),
        ("<answer>Option B</answer>", "B"),
        ("<think>The answer is A.</think>B", "B"),
        ("### B", "B"),
        ("答案是B", "B"),
        ("The answer: \uff22", "B"),
        ('The answer is "B".', "B"),
        ("Thus, the correct answer is \\(\\mathbf{B}\\).", "B"),
        ("Hence (B).", "B"),
        ("So, (B) is our answer.", "B"),
        ("It must be B.", "B"),
        ("It is not B.", None),
        ("So A, B and C are wrong.", None),
        ("A triangle has three sides", None),
        ("Not B.", None),
        ("", None),
    ],
)
def test_choices(response, chosen):
    assert find_choice(LETTERS, response) == chosen
    assert grade_choice(LETTERS, "B", response)["status"] == (
        "ok" if chosen == "B" else "no_answer" if chosen is None else "wrong"
    )


@pytest.mark.parametrize(
    ("gold", "response", "is_right"),
    [
        ("50°", "\\boxed{50^\\circ}", True),
        ("50°", "\\boxed{50}", True),
        ("50°", "\\boxed{51^\\circ}", False),
        ("12 cm", "\\boxed{12}", True),
        ("12 cm", "\\boxed{12\\text{ cm}}", True),
        ("12 cm", "\\boxed{13}", False),
        ("12 cm²", "\\boxed{12}", True),
        ("√3", "\\boxed{\\sqrt{3}}", True),
    ],
)
def test_values_with_units(gold, response, is_right):
    assert (grade_value(gold, response)["status"] == "ok") == is_right
