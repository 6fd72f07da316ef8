"""Numbers written as words, whole or beside digits: `five`, `twenty-one`, `two thirds`, `1.5 million`, `2 dozen`."""

from __future__ import annotations

import re
from fractions import Fraction

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
MAGNITUDES = {
    "dozen": 12,
    "hundred": 100,
    "thousand": 1000,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth twentieth thirtieth fortieth fiftieth sixtieth seventieth eightieth "
    "ninetieth hundredth thousandth millionth billionth trillionth"
).split()
_SMALL = {word: value for value, word in enumerate(_ONES)} | {word: 10 * (i + 2) for i, word in enumerate(_TENS)}
_PARTS = {
    **{"half": 2, "halves": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7},
    **{"eighth": 8, "ninth": 9, "tenth": 10},
}
_AND_A_PART = re.compile(r"([a-z -]+) and an? (half|third|quarter|fourth|fifth|sixth|eighth|tenth)")
_WORDS = re.compile(r"[a-z]+(?:[ -]+[a-z]+)*")
_WRAPPER = r"\\(?:text|mathrm|mbox|textrm|textbf|textit|rm)\s*"
_BESIDE = re.compile(
    rf"(-?(?:\d[\d,]*)?\.?\d+)\s*(?:\\[ ,;:]|~)*\s*(?:{_WRAPPER}\{{\s*({'|'.join(MAGNITUDES)})s?(\s+[A-Za-z ]+)?\s*\}}"
    rf"|({'|'.join(MAGNITUDES)})s?(?![a-z]))\s*"
)
_PI = re.compile(rf"(?<=\d)\s*(?:\\[ ,;:]|~)*\s*(?:{_WRAPPER}\{{\s*pi\s*\}}|pi(?![a-z]))")


def spell_numbers(text: str) -> str:
    """Rewrite a text that is a number in words, or digits with a word of magnitude or `pi` behind them.

    A word of magnitude is part of the number: `1.5 million` is never 1.5. Anything else stays as it is.
    """
    text = _PI.sub(r" \\pi ", text)
    text = _BESIDE.sub(_multiplied, text).strip()
    value = _value(re.sub(rf"{_WRAPPER}\{{([^{{}}]*)\}}", r"\1", text).strip(" .").casefold())
    if value is None:
        return text
    return str(value.numerator) if value.denominator == 1 else rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


def named_integer(text: str) -> int | None:
    """The integer that the number words of a text name, whatever stands beside them; None where there is none."""
    words = [word for word in re.split(r"[\s-]+", text.casefold()) if word in _SMALL or word in MAGNITUDES]
    return _integer(words)


def _value(text: str) -> Fraction | None:
    """The number a phrase names; None where it is anything else."""
    if not _WORDS.fullmatch(text):
        return None
    if part := _AND_A_PART.fullmatch(text):
        number = _value(part[1])
        return None if number is None else number + Fraction(1, _PARTS[part[2]])
    if " point " in text:
        return _decimal(*text.split(" point ", 1))
    sign, words = 1, re.split(r"[ -]+", text)
    if words[0] in ("minus", "negative"):
        sign, words = -1, words[1:]
    if words and (below := _PARTS.get(words[-1], _PARTS.get(words[-1].removesuffix("s")))):
        above = 1 if words[:-1] in ([], ["a"], ["an"]) else _integer(words[:-1])
        return None if above is None else Fraction(sign * above, below)
    whole = _integer(words)
    return None if whole is None else Fraction(sign * whole)


def _multiplied(match: re.Match[str]) -> str:
    digits, wrapped, behind, bare = match.groups()
    unit = rf"\text{{{behind}}}" if behind else ""
    return rf"{digits} \cdot {MAGNITUDES[wrapped or bare]} {unit}"


def _decimal(whole: str, digits: str) -> Fraction | None:
    """The number of `two point five`."""
    before, after = _value(whole), [_ONES.index(word) for word in digits.split() if word in _ONES[:10]]
    if before is None or before < 0 or len(after) != len(digits.split()):
        return None
    return before + Fraction(int("".join(map(str, after))), 10 ** len(after))


def _integer(words: list[str]) -> int | None:
    total = group = 0
    before = "magnitude"
    if not {*words} - {"a", "an", "and"}:  # a letter or a joining word, and no number
        return None
    for word in (each for each in words if each != "and"):
        if word in ("a", "an") and before == "magnitude" and not total and not group:
            group, before = 1, "one"
        elif word in _SMALL:
            is_one_after_ten = before == "ten" and 0 < _SMALL[word] < 10
            if before != "magnitude" and not is_one_after_ten:
                return None
            group += _SMALL[word]
            before = "ten" if _SMALL[word] >= 20 else "one"
        elif word in MAGNITUDES:
            if before == "magnitude" and word not in ("thousand", "million", "billion", "trillion"):
                return None
            if not group:
                return None
            group *= MAGNITUDES[word]
            if word not in ("hundred",):
                total, group = total + group, 0
            before = "magnitude"
        else:
            return None
    return total + group if words and before else None
