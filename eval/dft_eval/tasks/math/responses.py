r"""The place in a response where its answer stands: a box, a tag, a closing sentence, or what the text ends with."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from dft_eval.tasks.drafts import without_drafts
from dft_eval.tasks.math.golds import boxes, has_box, normalise_answer
from dft_eval.tasks.math.list_markers import without_list_markers
from dft_eval.tasks.math.number_words import spell_numbers

_TAIL_CHARACTERS = 400
_LINES_CHARACTERS = 4000  # where the lines and lists begin that the tail is in
_PLACEHOLDERS = frozenset(
    r"answer youranswer finalanswer theanswer yourfinalanswer answerhere youranswerhere your_answer final_answer "
    r"result number value solution ... x... \ldots \dots \cdots ? ??".split()
)
_TAG = re.compile(
    r"<((?:final[_ ]?)?answer)>(.*?)</\1>|\[((?:final[_ ]?)?answer)\](.*?)\[/\3\]", re.DOTALL | re.IGNORECASE
)
_CJK = re.compile("[\u3001-\u30ff\u4e00-\u9fff\uff0c\uff0e]+")
_MARKDOWN = re.compile(
    r"\*{2,3}|__|(?<![\w*])\*(?=\S)|(?<=\S)\*(?![\w*])|`|(?<![\w$\\{}^)])_(?=[^\s_{}$]+_(?!\w))|(?<=[^\s_{}$])_(?=[\s.,;:!]*$)"
    r"|</?(?:b|strong|i|em|u|mark)>",
    re.IGNORECASE,
)
_NUMERAL = re.compile(r"-?(?:\d[\d,]*(?:\.\d*)?|\.\d+)|-?\\frac\{\d+\}\{\d+\}")
_TORN = re.compile(r"\d[.,]\s+0+$")
_PHRASE = re.compile(r"(?:(?:final|correct)\s+)?(?:answer|result|value|solution)\s*(?:is|:|=)\s*(?!\s)", re.IGNORECASE)
_CHOICE = re.compile(
    r"(?i:answer|option|choice)\s*(?i:is|:|=)?\s*:?\s*(?i:option|choice)?"
    r"\s*(\(\s*[A-J]\s*\)|[A-J])\s*[.!]?\s*$"
)


def extract_answer(response: str) -> str | None:
    r"""Return what a response gives as its answer, as LaTeX for the grader; None where there is none.

    The last closed `\boxed{...}` that is neither empty nor a format (`\boxed{answer}`). Without one, the last
    `<answer>` tag; else the expression that math-verify finds last in the text, or its last number where there is no
    LaTeX; numbers that count lines, steps or sections are none. A box that is opened and never closed is an answer
    that was never finished.
    """
    response = answer_part(response)
    found = [box for box in boxes(response) if not is_placeholder(box)]
    if not found and r"\\boxed" in response:  # escaped once more, as in JSON
        found = [box for box in boxes(response.replace("\\\\", "\\")) if not is_placeholder(box)]
    if found:
        return normalise_answer(found[-1]) or None
    if has_box(response) and not boxes(response):
        return None
    tags = [tag for tag in tagged_answers(response) if not is_placeholder(tag)]
    return (normalise_answer(_after_phrase(tags[-1])) or None) if tags else _find_last(response)


def answer_part(response: str) -> str:
    """Return a response without its drafts; all of it where nothing stands outside them."""
    part = without_drafts(response)
    return part if part.strip() else response


def _after_phrase(text: str) -> str:
    """Return the text behind a last `the answer is`; all of it where there is none."""
    ends = [match.end() for match in _PHRASE.finditer(text)]
    return text[ends[-1] :].strip().removesuffix(".") if ends else text


def tagged_answers(response: str) -> list[str]:
    """Return the contents of the answer tags (`<answer>`, `<final_answer>`, `[answer]`), in order."""
    return [match[2] if match[2] is not None else match[4] for match in _TAG.finditer(response)]


def is_placeholder(box: str) -> bool:
    """Tell an empty box and one that only shows the format from an answer."""
    text = re.sub(r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}", r"\1", box)
    return re.sub(r"[\s$\[\]<>]|\\[ ,;]", "", text).casefold() in _PLACEHOLDERS | {""}


def clean_markdown(text: str) -> str:
    """Take bold, italics and code marks off."""
    return _MARKDOWN.sub("", text)


def _find_last(response: str) -> str | None:
    """Return the last answer of a text without a box; None where there is neither a choice, LaTeX nor a number."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    text = without_list_markers(response.strip()[-_LINES_CHARACTERS:])[-_TAIL_CHARACTERS:]
    text = clean_markdown(text).strip()
    if choice := _CHOICE.search(text):
        return rf"\text{{{choice[1]}}}"
    text = _CJK.sub(" ", text)
    latex = LatexExtractionConfig(normalization_config=_as_it_stands())
    found = parse(text, (latex, ExprExtractionConfig()), extraction_mode="first_match", parsing_timeout=None)
    if not found or not isinstance(found[-1], str):
        return _last_number_word(text)
    if is_torn(found[-1], text):
        return None
    return normalise_answer(_with_exponent(found[-1], text)) or None


def is_torn(number: str, text: str) -> bool:
    """Tell the second half of a number from one: `099` of `120. 099` could be 99, or the end of 120.099."""
    digits = re.sub(r"^0+(?=\d)", "", number)  # as math-verify gives them
    return _TORN.search(text[: text.rfind(digits)]) is not None


def _last_number_word(text: str) -> str | None:
    """Return the number that the answer's closing phrase names in words; None where it names none."""
    spelled = spell_numbers(_after_phrase(text))
    return spelled if _NUMERAL.fullmatch(spelled) else None


def _with_exponent(number: str, text: str) -> str:
    """Return a number with the exponent of its e-notation, which math-verify leaves behind."""
    exponent = re.match(r"[eE][-+]?\d+", text[text.rfind(number) + len(number) :]) if number in text else None
    return number + exponent[0] if exponent and _NUMERAL.fullmatch(number) else number


@lru_cache(maxsize=1)
def _as_it_stands() -> Any:
    from latex2sympy2_extended.latex2sympy2 import NormalizationConfig

    return NormalizationConfig(basic_latex=False, units=False, malformed_operators=False, nits=False, boxed="none")
