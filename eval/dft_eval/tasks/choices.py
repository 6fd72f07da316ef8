r"""The choice a response makes among lettered options: a box, a tag, or a sentence that says so."""

from __future__ import annotations

import re
from collections.abc import Mapping

from dft_eval.tasks.math.golds import boxes
from dft_eval.tasks.math.responses import answer_part, clean_markdown, is_placeholder, tagged_answers
from dft_eval.tasks.math.spelling import respell

LETTERS = "ABCDEFGHIJ"
_WRAPPED = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|mathit|rm|bm|boldsymbol)\s*\{([^{}]*)\}")
_HEADING = re.compile(r"^#+[ \t]*", re.MULTILINE)
_QUOTED = re.compile(r"[\"'“‘`]([A-J])[\"'”’`]")
_FULL_WIDTH_LETTERS = {0xFF21 + place: letter for place, letter in enumerate(LETTERS)} | {0xFF1A: ":"}
_ALONE = re.compile(r"\s*(?i:option|choice|answer)?\s*:?\s*[(\[{]?\s*([A-J])\s*[)\]}]?\s*(?:[.:,)].*|\s*)", re.DOTALL)
_LETTER = r"[(\[{]?\s*([A-J])\s*[)\]}]?(?![\w'’-])"
_SAID = re.compile(
    rf"(?i:(?:final\s+|correct\s+|right\s+|best\s+)*(?:answer|option|choice)|答案)\s*(?i:would\s+be|must\s+be|should\s+be|is|是|为|:|=|→)"
    rf"?\s*:?\s*(?:(?i:the\s+)?(?i:option|choice|letter)\s*)?{_LETTER}"
)
_CHOSEN = re.compile(
    rf"(?i:i\s+(?:would\s+)?(?:choose|pick|select)|(?:choose|select|pick|go\s+with))\s+(?:(?i:option|choice)\s+)?{_LETTER}"
)
_CONCLUDED = re.compile(
    rf"(?:(?i:\b(?:so|hence|thus|therefore|it\s+(?:is|must\s+be|should\s+be)))|=>|→|\\to)\s*,?\s*{_LETTER}\s*[.!]?\s*$"
)
_RIGHT = re.compile(
    rf"(?i:option|choice)?\s*{_LETTER}\s+(?i:is\s+(?:(?:the\s+)?(?:correct|right|true)(?:\s+answer)?|(?:the|our|my)\s+(?:final\s+)?(?:answer|choice)))"
)
_NEGATED = re.compile(r"(?i:\bnot|n't|\bneither|\bnor|\bcannot be|\bwrong|\bincorrect|\bfalse)\s*$")
_REJECTED = re.compile(
    r"^\s*(?i:is|are|was)?\s*(?i:not|n't|wrong|incorrect|false|ruled out|eliminated|isn't|can't|cannot)"
)
_ANOTHER = re.compile(r"^\s*(?i:or|and|/|,)\s*(?:(?i:option|choice)\s*)?[(\[]?\s*([A-J])(?![\w'’-])")


def find_choice(letters: Mapping[str, str], response: str) -> str | None:
    """Return the letter a response chooses; None where it chooses none, or two.

    Looked for in this order: the last box, the last `<answer>` tag, the last sentence that names an answer (`the answer
    is B`, `I choose B`, `B is correct`), a whole response or a last line that is a letter or the text of one option. A
    letter that is denied (`not B`, `option B is wrong`) is no choice, and `A or B` is none.

    Args:
        letters: The options' texts by letter; a text may be empty where it is not known.
        response: All a model wrote.
    """
    response = answer_part(response)
    found = [box for box in boxes(response) if not is_placeholder(box)]
    if found:
        return _read_alone(letters, found[-1])
    tags = tagged_answers(response)
    if tags:
        return _read_alone(letters, tags[-1])
    text = _undressed(response)
    said = _last_said(letters, text)
    if said is not None:
        return said or None
    lines = [line for line in text.splitlines() if line.strip()]
    return _read_alone(letters, text) or (_read_alone(letters, lines[-1]) if lines else None)


def _undressed(response: str) -> str:
    """Return a text without Markdown, wrappers, formula signs, and quotes around a letter."""
    text = _HEADING.sub("", clean_markdown(response.translate(_FULL_WIDTH_LETTERS)).strip())
    text = re.sub(r"\\[()\[\]]|\$", "", _WRAPPED.sub(r"\1", text))
    return _QUOTED.sub(r"\1", text).strip()


def _read_alone(letters: Mapping[str, str], text: str) -> str | None:
    """Return the letter that a short text is, or whose option it is; None for anything else."""
    plain = _WRAPPED.sub(r"\1", respell(text.replace("$", "")))
    match = _ALONE.fullmatch(plain)
    if match and match[1] in letters and not _ANOTHER.match(plain[match.end(1) :].lstrip(" )]}")):
        return match[1]
    same = [letter for letter, option in letters.items() if option and plain_text(option) == plain_text(text)]
    return same[0] if len(same) == 1 else None


def _last_said(letters: Mapping[str, str], text: str) -> str | None:
    """Return the letter last said to be the answer; empty where the last one is denied or one of two; None for none."""
    matches = sorted(
        (
            match
            for pattern in (_SAID, _CHOSEN, _RIGHT, _CONCLUDED)
            for match in pattern.finditer(text)
            if match[1] in letters
        ),
        key=lambda match: match.start(1),
    )
    for match in reversed(matches):
        before, after = text[: match.start()], text[match.end() :]
        if _NEGATED.search(before[-20:]) or _REJECTED.match(after):
            continue
        return "" if (other := _ANOTHER.match(after)) and other[1] != match[1] else match[1]
    return "" if matches else None


def plain_text(text: str) -> str:
    """Return a text without dollars, spaces, wrappers, degree signs' spelling and case."""
    text = re.sub(
        r"\^\s*\{?\s*\\circ\s*\}?|\\degree", r"^{\\circ}", _WRAPPED.sub(r"\1", respell(text.replace("$", "")))
    )
    return re.sub(r"\s|\\[,;! ]", "", text).strip(".").casefold()
