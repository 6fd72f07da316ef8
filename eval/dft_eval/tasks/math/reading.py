r"""Answers as expressions, read as a whole or not at all.

math-verify falls back to the last number in what it cannot read, lower-cases symbols and drops single letters at the
end as units: `\frac{1}{3} E_{1}+\frac{2}{3} E_{2}` was 2/3, `N=n` was n=n, `6m` was 6. Here a text that cannot be
read stays a text, compared as such; symbols keep their case; and a letter is a unit only beside a plain number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from dft_eval.tasks.math.sets import as_conjunction, is_empty
from dft_eval.tasks.math.units import is_no_unit, without_unit

_NAMES = r"max|min|sup|inf|odot|oplus|ominus|star|ast|infty|perp|parallel"
_REWRITES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\[,;:!>](?=\D|$)|\\(?:quad|qquad|displaystyle)(?![A-Za-z])|~", " "),
        (r"^\s*(?:=|\\approx(?![a-z])|\\sim(?:eq)?(?![a-z]))", ""),
        (r"^\s*([A-Za-z])\(([^()\[\]]+,[^()\[\]]+)\]\s*$", r"\1 \\in (\2]"),  # as OlympiadBench spells `t \in (0,4]`
        (r"(?<=\d)\.(?=\s*(?:[-+*/^)},;]|$))", ""),  # `3./2`
        (r"\s*\.\s*$", ""),
        (r"(?<!\d)(\d{1,3}(?: \d{3})+)(?!\d)", lambda match: match[1].replace(" ", "")),
        (
            r"(?<![\w^_}.\\])(\d+)\s*(?=\(\s*-?[\d./]+\s*\))",
            r"\1 \\cdot ",
        ),  # the reader adds `2(3)` up, like `2 \frac{1}{3}`
        (r"(\(\s*-?[\d./]+\s*\))\s*(?=\(\s*-?[\d./]+\s*\))", r"\1 \\cdot "),
        (  # else a derivative of a symbol that depends on nothing, which is 0
            r"\\d?frac\s*\{\s*d\s*\\?([A-Za-z]+)\s*\}\s*\{\s*d\s*\\?([A-Za-z]+)\s*\}",
            r"\\frac{\\text{d\1}}{\\text{d\2}}",
        ),
        (r"''", r"^{\\prime\\prime}"),
        (r"(?<=[A-Za-z)}])'", r"^{\\prime}"),
        (rf"_\s*(?:\{{\s*\\({_NAMES})\s*\}}|\\({_NAMES})(?![A-Za-z]))", r"_{\1\2}"),
        (r"_\s*\{\s*\\(?:text|mathrm|textrm|mathit|rm)\s*\{\s*(\w+)\s*\}\s*\}", r"_{\1}"),
        (r"(?<![A-Za-z\\])E(?=\s*_)", r"\\text{E}"),  # the reader knows a bare E alone
        (r"\\hbar(?![A-Za-z])", r"\\text{hbar}"),
        (r"\\gamma(?![A-Za-z])", r"\\text{gam}"),  # the reader takes `\gamma^{2}` for a function
    )
)
_PARENTHESES = re.compile(r"\s*(?:\\left)?\(([^()\[\],]*?)(?:\\right)?\)\s*")
_TWO_NUMBERS = re.compile(r"(?<![\w^.])\d[\d.]*\s+\.?\d")
_SPACES = re.compile(r"(?:\s|(?<!\\)\\(?=\s))+")
_OPERATOR_SPACES = re.compile(r"\s*([+=])\s*")
_SPACING = re.compile(r"(?<!\\)\\[,;:! ]|\\q?quad(?![A-Za-z])|~")
_WRAPPED_UNIT = re.compile(
    r"(?:\s|/|\\cdot\b)*\\(?:text|mathrm|mbox|textrm|textbf|mathbf)\s*\{[^{}\d]*\}"
    r"(?:\s*\^\s*(?:\{\s*-?\d\s*\}|\d))?\s*$"
)
_ENDS_WELL = re.compile(r"[^\s=+\-*/,;:^_(\[<>]\s*$")
_WRAPPER = re.compile(r"\\(?:text|mathrm|mbox|textrm|textbf|textit|mathbf|mathit|rm)\s*\{([^{}]*)\}")
_WORD = re.compile(r"\(?([A-Za-z]+(?: [A-Za-z]+)*)\)?")
_ONE_CHARACTER = re.compile(r"([_^])\{(\w)\}")
_CHOICE = re.compile(r"\(\s*([A-J])\s*\)(?:[\s.:].*)?|([A-J])\)(?:[\s.:].*)?")
_AND = re.compile(r"\\text\s*\{\s*and\s*\}|(?<=\s)and(?=\s)|\\land(?![A-Za-z])|\\wedge(?![A-Za-z])")
_BASE = re.compile(r"-?\d+\s*_\s*\{?\s*(\d+)\s*\}?")


class Reading(NamedTuple):
    """The value that a text stands for."""

    latex: str
    """Respelled for the reader."""
    text: str
    """For comparison as text."""
    word: str
    """The name or phrase that it is, folded; empty where it is anything else."""
    is_wrapped: bool
    r"""True where `\text{}` or the like is in it."""
    is_real: bool
    """True where its symbols are taken for real numbers; an answer is read with its reference's choice."""
    is_braced: bool
    """True for a set in braces."""
    is_open: bool
    r"""Whether it goes on, with `\ldots`."""
    choice: str
    """The letter of a choice, alone or before its text, as in `(C)` or `\\text{(C) } 12`; empty for everything else."""
    base: str
    """The base of a number written with one, as in `52_8`; empty for everything else."""
    has_and: bool
    """True where `and` joins its parts, which hold at once then if they are inequalities."""

    @property
    def expression(self) -> Any:
        """From sympy; None where the text cannot be read as a whole."""
        parsed = _parse(self.latex, self.is_real)
        return as_conjunction(parsed) if self.has_and else parsed


@lru_cache(maxsize=4096)
def read_reference(latex: str) -> Reading:
    r"""A reference; wrapped units do not belong to it. The same for each of many answers to a problem.

    One whose `and` would leave nothing, as `x<1 \text{ and } x>2`, means either.
    """
    reading = _read(strip_wrapped_unit(latex), None)
    return reading._replace(has_and=False) if reading.has_and and is_empty(reading.expression) else reading


def read_candidates(latex: str, reference: Reading) -> Iterator[Reading]:
    """The ways an answer may be meant: as it stands, without its wrapped unit, without a bare one.

    A bare letter at the end is a unit only where the reference and what is left are free of symbols.
    """
    wrapped = strip_wrapped_unit(latex)
    for spelling in dict.fromkeys((latex, wrapped)):
        yield _read(spelling, reference.is_real)
    if not _is_constant(reference.expression):
        return
    for bare in dict.fromkeys((_strip_bare_unit(wrapped), without_unit(latex))):
        if bare not in (latex, wrapped):
            reading = _read(bare, reference.is_real)
            if _is_constant(reading.expression):
                yield reading


def strip_wrapped_unit(latex: str) -> str:
    r"""Without `\text{ cm}^2`, `\mathrm{~m} / \mathrm{s}` and the like at the end; all of it where nothing is left."""
    if match := _PARENTHESES.fullmatch(latex):
        latex = match[1]
    latex = _SPACING.sub(" ", latex)
    while (shorter := _WRAPPED_UNIT.sub("", latex)) != latex and _ENDS_WELL.search(_WRAPPER.sub("", shorter)):
        if is_no_unit(latex[len(shorter) :]):
            break
        latex = shorter
    return latex


def _read(latex: str, is_real: bool | None) -> Reading:
    from latex2sympy2_extended.latex2sympy2 import normalize_latex
    from math_verify.grader import should_treat_as_complex

    for pattern, replacement in _REWRITES:
        latex = pattern.sub(replacement, latex)
    latex = _OPERATOR_SPACES.sub(r"\1", _SPACES.sub(" ", latex)).strip()
    spelled = normalize_latex(latex, _normalisation())
    if is_real is None:
        is_real = not should_treat_as_complex(re.sub(r"(?<=\d)i\b", " i", spelled))
    word = _WORD.fullmatch(_WRAPPER.sub(r"\1", latex).strip())
    base = _BASE.fullmatch(spelled)
    choice = _CHOICE.fullmatch(_WRAPPER.sub(r"\1", latex).strip())
    return Reading(
        latex=spelled,
        text=_text(spelled),
        word=word[1].casefold() if word else "",
        is_wrapped=_WRAPPER.search(latex) is not None,
        is_real=is_real,
        is_braced=spelled.startswith(("\\{", "\\lbrace")) and spelled.endswith(("\\}", "\\rbrace")),
        is_open="\\ldots" in latex,
        choice=next(filter(None, choice.groups())) if choice else "",
        base=base[1] if base else "",
        has_and=_AND.search(latex) is not None,
    )


@lru_cache(maxsize=4096)
def _parse(latex: str, is_real: bool) -> Any:
    """The expression of a whole text; None where there is none, or where the reader is known to lose a part."""
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig, latex2sympy
    from sympy import Derivative

    if _TWO_NUMBERS.search(latex):  # `2 3`: the reader adds them up
        return None
    settings = ConversionConfig(lowercase_symbols=False)
    try:
        found = latex2sympy(latex, is_real=is_real, normalization_config=None, conversion_config=settings)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - the reader raises plain Exception for what it cannot read, and more kinds for the rest
        return None
    is_lost = hasattr(found, "has") and found.has(Derivative)  # of symbols that depend on nothing: worth 0
    return None if is_lost else found


@lru_cache(maxsize=1)
def _normalisation() -> Any:
    from latex2sympy2_extended.latex2sympy2 import NormalizationConfig

    return NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none", equations=False
    )


def _strip_bare_unit(latex: str) -> str:
    from latex2sympy2_extended.math_normalization import units_regex

    for _ in range(2):  # `square inches`
        latex = units_regex.sub(r"\1", latex).strip() or latex
    return latex


def _is_constant(expression: Any) -> bool:
    return hasattr(expression, "free_symbols") and not expression.free_symbols


def _text(latex: str) -> str:
    latex = re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", _WRAPPER.sub(r"\1", latex))  # `2 7` is not 27
    return _ONE_CHARACTER.sub(r"\1\2", re.sub(r",+", ",", latex))
