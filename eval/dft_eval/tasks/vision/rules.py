r"""Judging visual mathematics without a judge: the letter of a choice, else the value of the last box.

Scores by these rules are labelled `rule` and never compared with a judge's: the answer must be written as asked,
and a judge forgives more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dft_eval.tasks.math.golds import last_box, normalise_answer
from dft_eval.tasks.math.grader import grade_response

RULES_VERSION = "1"

_WRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mathbf|rm)\s*\{([^{}]*)\}")
_LETTER = re.compile(r"\s*[(\[{]?\s*([A-I])\s*[)\]}]?\s*(?:[.:)].*)?", re.DOTALL)
_SAID = re.compile(
    r"(?i:answer|option|choice)\s*(?i:is|:|=)?\s*:?\s*(?i:option\s*|choice\s*)?[*(\[\s]*([A-I])(?![\w'])"
)
_LAST_LINE = re.compile(r"[*\s]*[(\[]?([A-I])[)\].]?[*\s.]*")


def judge_choice(letters: Mapping[str, str], gold: str, response: str) -> dict[str, Any]:
    """Judge the choice a response makes.

    Looked for in this order: a letter in the last box, the text of exactly one choice in it, the last "answer is X",
    a last line that is a letter.

    Args:
        letters: The choices' texts by letter.
        gold: The right letter.
        response: All a model wrote.

    Returns:
        `status` (`ok`, `wrong`, `no_answer`) and `answer`.
    """
    chosen = _find_choice(letters, response)
    if chosen is None:
        return {"status": "no_answer", "answer": ""}
    return {"status": "ok" if chosen == gold else "wrong", "answer": chosen}


def judge_value(gold: str, response: str) -> dict[str, Any]:
    """Judge a free answer: equal as text, else by the grader of the mathematics benchmarks.

    Returns:
        `status` and `answer`, and what the grader adds.
    """
    box = last_box(response)
    if box is not None and _plain(box) == _plain(gold):
        return {"status": "ok", "answer": box[:200]}
    return grade_response(normalise_answer(gold), response)


def _find_choice(letters: Mapping[str, str], response: str) -> str | None:
    box = last_box(response)
    if box is not None:
        text = _WRAPPED.sub(r"\1", box)
        if (match := _LETTER.fullmatch(text)) and match[1] in letters:
            return match[1]
        same = [letter for letter, choice in letters.items() if choice and _plain(choice) == _plain(box)]
        return same[0] if len(same) == 1 else None
    said = [match[1] for match in _SAID.finditer(response)]
    lines = response.strip().splitlines()
    last = _LAST_LINE.fullmatch(lines[-1]) if lines else None
    for letter in (*said[-1:], *([last[1]] if last else [])):
        if letter in letters:
            return letter
    return None


def _plain(text: str) -> str:
    """Text without dollars, spaces, wrappers and case."""
    return re.sub(r"[\s$]|\\[,;! ]", "", _WRAPPED.sub(r"\1", text)).strip(".").casefold()
