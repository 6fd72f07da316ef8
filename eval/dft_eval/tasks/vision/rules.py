r"""Rules for visual mathematics, without a judge: the letter of a choice, else the value of the last box.

Scores by these rules are labelled `rule` and never compared with a judge's: the answer must be written as asked,
and a judge accepts more forms.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dft_eval.tasks.choices import find_choice, plain_text
from dft_eval.tasks.math.golds import last_box, normalise_answer
from dft_eval.tasks.math.grader import grade_response
from dft_eval.tasks.math.reading import strip_wrapped_unit
from dft_eval.tasks.math.units import without_unit

RULES_VERSION = "2"


def grade_choice(letters: Mapping[str, str], gold: str, response: str) -> dict[str, Any]:
    """Grade the choice a response makes; see `find_choice`.

    Args:
        letters: The choices' texts by letter.
        gold: The right letter.
        response: All a model wrote.

    Returns:
        `status` (`ok`, `wrong`, `no_answer`) and `answer`.
    """
    chosen = find_choice(letters, response)
    if chosen is None:
        return {"status": "no_answer", "answer": ""}
    return {"status": "ok" if chosen == gold else "wrong", "answer": chosen}


def grade_value(gold: str, response: str) -> dict[str, Any]:
    """Grade a free answer: equal as text, else by the grader of the mathematics benchmarks; units may be left out.

    Returns:
        `status` and `answer`, and what the grader adds.
    """
    box = last_box(response)
    if box is not None and plain_text(box) == plain_text(gold):
        return {"status": "ok", "answer": box[:200]}
    latex = normalise_answer(gold)
    return grade_response(without_unit(strip_wrapped_unit(latex)), response)
