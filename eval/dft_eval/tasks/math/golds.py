"""Reference answers of the five mathematics benchmarks, and boxed answers in a text.

The files spell their answers in many ways; what reaches the grader is LaTeX without dollars. E-notation matters
most: 58 of Minerva's 272 answers are of the kind `4.5e33`, and no grader reads that as 4.5 times ten to the 33.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dft_eval.tasks.math.number_words import spell_numbers
from dft_eval.tasks.math.spelling import respell

GOLDS_VERSION = "3"

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_BRACE = re.compile(rf"{_BOX.pattern}|\\.|[{{}}]", re.DOTALL)
_NUMPY = re.compile(r"\bnp\.(arcsin|arccos|arctan|sin|cos|tan|log|exp|sqrt)\b")
_THOUSANDS = re.compile(r"(?<=\d)(?:\\[,!]|\{,\}|,\s?\\!\s?)(?=\d{3}(?!\d))")
_WHOLE_FLOAT = re.compile(r"(-?\d+)\.0")


def boxes(text: str) -> list[str]:
    r"""Return the contents of every `\boxed{...}` that is closed, in the order in which they close.

    One pass over the text. Of a box within a box the outer one counts: it closes last.
    """
    opened: list[tuple[int, bool]] = []
    found = []
    for match in _BRACE.finditer(text):
        token = match[0]
        if token.endswith("{") and token != "\\{":
            opened.append((match.end(), len(token) > 1))
        elif token == "}" and opened:
            start, is_box = opened.pop()
            if is_box:
                found.append(text[start : match.start()])
    return found


def last_box(text: str) -> str | None:
    """Return the content of the last box that is closed; None where there is none."""
    return next(reversed(boxes(text)), None)


def has_box(text: str) -> bool:
    r"""Tell whether a `\boxed{` is opened at all."""
    return _BOX.search(text) is not None


def read_gold(task_name: str, row: Mapping[str, Any]) -> str:
    """The reference answer of a record as LaTeX, before normalisation.

    Raises:
        ValueError: the record has none.
    """
    if task_name == "minerva_math":
        gold = last_box(row["solution"])
    elif task_name == "olympiadbench":
        (gold,) = row["final_answer"]
    else:
        gold = str(row["answer"])
    if not gold or not gold.strip():
        raise ValueError(f"a record of {task_name} has no reference answer: {str(row)[:200]}")
    return gold


def normalise_answer(text: str) -> str:
    r"""LaTeX that the grader reads as it is meant.

    No dollars, `4.5e33` as a power of ten, `27.0` as 27, no thin spaces between thousands, no `np.`, no unicode signs,
    no styles, number words as numbers. Applied to references and to what a model gives alike.
    """
    text = respell(_NUMPY.sub(r"\\\1", text.replace("\\$", "").replace("$", "")).strip())
    text = _THOUSANDS.sub("", spell_numbers(text))
    match = _WHOLE_FLOAT.fullmatch(text)
    return match[1] if match else text
