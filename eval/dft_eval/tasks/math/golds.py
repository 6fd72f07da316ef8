"""Reference answers of the five mathematics benchmarks, and boxed answers in a text.

The files spell their answers in many ways; what reaches the grader is LaTeX without dollars. E-notation matters
most: 58 of Minerva's 272 answers are of the kind `4.5e33`, and no grader reads that as 4.5 times ten to the 33.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

GOLDS_VERSION = "2"

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_BRACE = re.compile(rf"{_BOX.pattern}|\\.|[{{}}]", re.DOTALL)
_E_NOTATION = re.compile(r"\s*([+-]?\d+(?:\.\d*)?|[+-]?\.\d+)[eE]([+-]?\d{1,4})\s*")
_NUMPY = re.compile(r"\bnp\.(arcsin|arccos|arctan|sin|cos|tan|log|exp|sqrt)\b")
_THOUSANDS = re.compile(r"(?<=\d)(?:\\[,!]|\{,\}|,\s?\\!\s?)(?=\d{3}(?!\d))")
_WHOLE_FLOAT = re.compile(r"(-?\d+)\.0")


def last_box(text: str) -> str | None:
    r"""The content of the last `\boxed{...}` that is closed; None where there is none.

    One pass over the text. Of a box within a box the outer one counts: it closes last.
    """
    opened: list[tuple[int, bool]] = []
    box = None
    for match in _BRACE.finditer(text):
        token = match[0]
        if token.endswith("{") and token != "\\{":
            opened.append((match.end(), len(token) > 1))
        elif token == "}" and opened:
            start, is_box = opened.pop()
            box = text[start : match.start()] if is_box else box
    return box


def has_box(text: str) -> bool:
    r"""Whether a `\boxed{` is opened at all."""
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

    No dollars, `4.5e33` as a power of ten, `27.0` as 27, no thin spaces between thousands, no `np.`.
    Applied to references and to the content of a model's box alike.
    """
    text = _NUMPY.sub(r"\\\1", text.replace("\\$", "").replace("$", "")).strip()
    text = _THOUSANDS.sub("", text)
    if match := _WHOLE_FLOAT.fullmatch(text):
        return match[1]
    if match := _E_NOTATION.fullmatch(text):
        return rf"{match[1]} \times 10^{{{int(match[2])}}}"
    return text
