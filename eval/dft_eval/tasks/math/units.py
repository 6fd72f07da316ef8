r"""Units beside a number: `36\ \mathrm{m\,s^{-1}}`, `9.8\,\frac{\text{m}}{\text{s}^2}`, `60 km/h`, `5 dollars`.

A unit may be left out only beside a constant, for a constant. A word that belongs to the number (`million`, `pi`, `or`)
is no unit, and neither is a single letter, but for those that a wrapper or a space marks.
"""

from __future__ import annotations

import re

from dft_eval.tasks.math.number_words import MAGNITUDES, ORDINALS

NO_UNITS = frozenset(
    """pi e i or and to if for when where with mod modulo plus minus times over by squared cubed root factorial choose
    half halves quarter quarters percent infinity infinite undefined none not
    no more less least most than greater only at per mille in sin cos tan cot csc log ln exp max sup inf lim
    gcd lcm det dim arg re im th st nd rd score scores gross pair pairs couple""".split()
) | {word + end for word in (*MAGNITUDES, *ORDINALS) for end in ("", "s")}
# Written bare and in lower or mixed case; a prefix may stand before those of the second row.
_WHOLE = (
    "mph|kph|rpm|psi|atm|torr|mmHg|amu|Ang|dB|ppm|mol|sq|cu|lbs?|oz|ft|yd|mi|gal|qt|hrs?|mins?|secs?|deg|rad|sr|AU|ly"
)
_PREFIXED = "eV|Hz|Pa|erg|dyn|cal|bar|Wh|m|g|s|A|K|L|l|N|J|W|V|C|F|T|H|Wb"
_SYMBOL = rf"(?:{_WHOLE}|(?:da|[yzafpnumcdhkMGTPEZY])?(?:{_PREFIXED}))"
_POWER = r"(?:\s*\^\s*(?:\{\s*-?\d+(?:/\d+)?\s*\}|-?\d+))?"
_WRAPPER = r"\\(?:text|mathrm|mbox|textrm|textbf|mathbf|textit|rm|operatorname|unit|si)\s*"
_WORD = r"[A-Za-z\u00c5]{2,}(?:-[A-Za-z]+)*"
_SIGN = r"\\(?:Omega|AA|mu(?=\s*\\(?:text|mathrm)|\s+[A-Za-z])|%|degree|celsius|ohm)(?![A-Za-z])"
_INSIDE = r"\{(?:[^{}]|\{[^{}]*\})*\}"
_ATOM = rf"(?:{_WRAPPER}{_INSIDE}|{_SIGN}|{_WORD}|{_SYMBOL}(?![A-Za-z])){_POWER}"
_LINK = r"(?:\s|\\[ ,;:!]|~|\\cdot(?![a-z])|\\times(?![a-z])|\*|\.(?=[A-Za-z])|/|\bper\b)*"
_PRODUCT = rf"{_ATOM}(?:{_LINK}{_ATOM}|\s*/\s*[hdy](?![A-Za-z]){_POWER})*"
_UNIT = re.compile(
    rf"(?:\\[ ,;:!]|~|\s|\\cdot(?![a-z])|\\times(?![a-z]))*"
    rf"(?:\^\s*\{{?\s*\\circ\s*\}}?\s*)?"
    rf"(?:\\[dt]?frac\s*\{{\s*{_PRODUCT}\s*\}}\s*\{{\s*{_PRODUCT}\s*\}}|/?\s*{_PRODUCT})\s*[.]?"
)
_WORDS = re.compile(r"(?<!\\)[A-Za-z]+")
_RATE = re.compile(r"(?<=[A-Za-z])\s+per\s+(?!mille?\b|cent\b)(?=[A-Za-z])")  # `miles per hour`
_LETTER = re.compile(r"[A-Za-z]")
_NUMBER_END = re.compile(r"[\d)}\]]")


def without_unit(latex: str) -> str:
    """The text before its trailing unit, or all of it where it ends with none."""
    for match in _NUMBER_END.finditer(latex):
        tail = latex[match.end() :]
        if tail and _balanced(latex[: match.end()]) and _is_unit(tail):
            return latex[: match.end()].strip()
    return latex


def is_no_unit(tail: str) -> bool:
    """Tell whether a word that belongs to the number or joins two answers is in the text."""
    words = _WORDS.findall(_RATE.sub(" ", re.sub(r"\\[A-Za-z]+", " ", tail)))
    return any(word.casefold() in NO_UNITS for word in words)


def _is_unit(tail: str) -> bool:
    if _LETTER.fullmatch(tail):  # `3K` may be three times K; `3 K` are kelvins
        return False
    return _UNIT.fullmatch(tail) is not None and not is_no_unit(tail)


def _balanced(text: str) -> bool:
    return all(text.count(a) == text.count(b) for a, b in ("{}", "()"))
