r"""Grading by the rules of the Qwen2.5-Math evaluation, which the paper's figures were made with.

For comparing with those figures, not for grading: the rules accept wrong answers, and that is kept on purpose.
Right by them are `(2,5)` for `[2,5)`, `50` for `0.5` and `500` for `5` (percent), `(2,3)` for `\{2,3\}`, `1,3` for
`13`, a box that was never closed, and whatever follows a first comma (`1,2` for `1,3`). Wrong is
`4.5 \times 10^{33}` for `4.5e33`.

Written anew from the rules. What differs: nothing a model wrote is ever evaluated as Python; one LaTeX reader, which is
brought to read as the first of the original's three, instead of all of them in turn; fewer words for units.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dft_eval.tasks.math.number_words import named_integer
from dft_eval.tasks.math.values import number

if TYPE_CHECKING:
    from sympy import Expr

QWEN_RULES_VERSION = "2"
_RELATIVE_ERROR = 1e-4
_MINERVA = ("final answer is $", "$. I hope")
_PHRASES = ("he answer is", "final answer is")
_CHINESE_PHRASE = "答案是"
_LAST_NUMBER = re.compile(r"-?\d*\.?\d+")
_UNITS = (  # the single letters are units too: `s + a` loses both, here as there
    "a acre am c cc cm cu cube cubic d day deg degree dm feet foot ft g gal gallon gm h hectare hour hr inch inches "
    "kg km kmh kmph l lb liter litre m meter metre mile min minute mm month mph o ohm per percent pm ratio s sec "
    "second sq square t unit yard year yr"
)
_UNIT = re.compile(rf"(?<!\w)(?:{'|'.join(sorted(_UNITS.split(), key=len, reverse=True))})s?(?!\w)")
_TEXT_AT_END = re.compile(r"\\text\{.*\}$")
_CHOICE = re.compile(r"\b[A-E]\b")
_LIST = re.compile(r"[(\[].+[)\]]")
_SET = re.compile(r"\{(\w+(?:,\w+)+)\}")
_MATRIX = re.compile(r"\\begin\{pmatrix\}(.*)\\end\{pmatrix\}", re.DOTALL)

_Rewrites = tuple[tuple[re.Pattern[str], str], ...]


def _compile(*rewrites: tuple[str, str]) -> _Rewrites:
    return tuple((re.compile(pattern), replacement) for pattern, replacement in rewrites)


_AS_READ_THERE = _compile(  # the original's first reader ends where it does not understand
    (r"(?<=\d),(?=\d{3}(?!\d))", ""),
    (r"(?<!\\),.*|(?<=\w)\].*", ""),
    (r"(?:[-+*/^_]|/\^.*|\\times|\\cdot|_\{|(?:\\,)?\\frac\{)$", ""),
    (r"(?<=\d)_(?:\w|\{\w+\})$|(?<=\d)\\sqrt\(.*", ""),
    (r"\\log_(\w)(?=\w)", r"\\log_{\1}"),
    (r"(?<=\d)(?=\\frac)|(?<=\))(?=\()", r"\\cdot "),  # no mixed numbers
)
_UNREAD = re.compile(r"[^\x00-\x7f]|:0+$|\\(?:cfrac|approx|textbf)(?![a-z])")

_SPELLING = _compile(
    (r"\n|\\!", ""),
    (r"\.+$", ""),
    (r"\\begin\{array\}\{.*?\}", r"\\begin{pmatrix}"),
    (r"\\end\{array\}", r"\\end{pmatrix}"),
    (r"bmatrix", "pmatrix"),
    (r"[td]frac", "frac"),
    (r"\\(ne|le|ge)q", r"\\\1"),
    (r"\\left|\\right", ""),
    (r"\\([{}])", r"\1"),
)
_MARKS = _compile((r"\^(?:\{\\circ\}|\\circ)", ""), (r"\\?\$|\\[()]", ""))
_CONTENT = _compile(
    (r"\\text\{(.*?)\}", r"\1"),
    (r"[xyz](?:=|\\in|\\to)", ""),
    (r"\\emptyset", "{}"),
    (r"\(-\\infty,\\infty\)", r"\\mathbb{R}"),
    (r"\\?%", ""),
    (r"([ {])\.", r"\g<1>0."),
    (r"infinity", r"\\infty"),
    (r"and|\\mathbf|\\mbox\{.*?\}", ""),
)
_ZEROS = _compile((r"(\d)\.0*(\D|$)", r"\1\2"), (r"^\.", "0."), (r"^[^=]{0,2}=([^=]*)$", r"\1"))
_SHORTHAND = _compile(
    (r"\\sqrt(\w+)", r"\\sqrt{\1}"),
    (r" ", ""),
    (r"\\frac([^{])\{", r"\\frac{\1}{"),
    (r"\\frac([^{])([^{])", r"\\frac{\1}{\2}"),
    (r"^(-?\d+|[^/]*sqrt[^/]*)/(-?\d+|[^/]*sqrt[^/]*)$", r"\\frac{\1}{\2}"),
)


def find_answer(response: str) -> str:
    """Return a response's answer: the last box, else the text after "answer is", else the last number.

    A box without its closing brace reaches to the end of the text. Empty where there is nothing.
    """
    opening, closing = _MINERVA
    if opening in response and closing in response:
        answer = response.split(opening, 1)[1].split(closing, 1)[0].strip()
    elif "boxed" in response:
        answer = _box_content(response.rpartition("boxed")[2])
    elif phrase := next((phrase for phrase in _PHRASES if phrase in response), None):
        answer = response.rpartition(phrase)[2].strip()
    elif _CHINESE_PHRASE in response:
        answer = response.split(_CHINESE_PHRASE)[1].strip().partition("\n\n")[0]
    else:
        answer = ""
        for match in _LAST_NUMBER.finditer(response.replace(",", "")):
            answer = match[0]
    return re.sub(r"\n\s*", "", answer).removeprefix(":").removesuffix(".").removesuffix("/")


def normalise_answer_like_qwen(answer: str, *, keeps_units: bool) -> str:
    r"""An answer as the rules compare it: normalised twice, which finds a number word that stood in `\text{}`."""
    once = normalise_like_qwen(answer, keeps_units=keeps_units)
    return normalise_like_qwen(once, keeps_units=keeps_units)


def normalise_like_qwen(text: str, *, keeps_units: bool) -> str:
    """A reference as the rules compare it.

    Args:
        text: As its file spells it.
        keeps_units: Leave the words for units; Minerva is graded so.
    """
    text = _rewrite(text.strip(), _SPELLING)
    text = _TEXT_AT_END.sub("", text).strip() or text
    if not keeps_units:
        text = _UNIT.sub("", text) or text
    text = _rewrite(text, _MARKS)
    if (number_in_words := named_integer(text)) is not None:
        text = str(number_in_words)
    text = _rewrite(text, _CONTENT)
    if "\\infty" not in text:
        text = text.replace("inf", "\\infty")
    if "i" not in text:
        text = text.replace("j", "i")
    return _rewrite(_rewrite(text, _ZEROS), _SHORTHAND)


def are_equal_for_qwen(answer: str, reference: str) -> bool:
    """Return True for an answer that counts as right; both normalised.

    In this order: as text, as a choice letter, as numbers, as text without brackets, member by member, as equations, as
    expressions.
    """
    answer, reference = answer.strip(), reference.strip()
    if answer.lower() == reference.lower():
        return True
    if _CHOICE.fullmatch(reference) and _CHOICE.findall(answer.upper())[-1:] == [reference]:
        return True
    found, wanted = _float(answer), _float(reference)
    if found is not None and wanted is not None:
        if any(_are_close(found, value) for value in (wanted / 100, wanted, wanted * 100)):
            return True
        if not re.search(r"[,_]", answer + reference):  # `8,4` was 84; below it is 8
            return False
    if not answer:
        return False
    if _are_equal_without_brackets(answer, reference):
        return True
    if _are_equal_sets(answer, reference):
        return True
    if _LIST.match(answer) and _LIST.match(reference):
        return _are_all_equal(answer[1:-1].split(","), reference[1:-1].split(","))
    if (rows := _MATRIX.fullmatch(answer)) and (wanted_rows := _MATRIX.fullmatch(reference)):
        return _have_equal_cells(rows[1], wanted_rows[1])
    return _are_equal_expressions(answer, reference)


def _are_equal_without_brackets(answer: str, reference: str) -> bool:
    """As text without braces and parentheses; brackets at the ends do not count where only one side has them."""
    ends, other_ends = (text[:1] + text[-1:] for text in (answer, reference))
    if (ends == "[]" and other_ends != "()") or (ends == "()" and other_ends != "[]"):
        answer, reference = answer.strip("[]()"), reference.strip("[]()")
    bare, other = (re.sub(r"[{}()]", "", text).lower() for text in (answer, reference))
    return bare == other


def _are_equal_sets(answer: str, reference: str) -> bool:
    """Members in any order, as long as they are plain numbers or names."""
    one, other = _SET.fullmatch(answer), _SET.fullmatch(reference)
    return bool(one and other and set(one[1].split(",")) == set(other[1].split(",")))


def _box_content(text: str) -> str:
    """From the opening brace to the one that closes it, or to the end; without a brace, to the next dollar."""
    if not text.startswith("{"):
        return text.partition("$")[0].strip()
    depth = 0
    for match in re.finditer(r"[{}]", text):
        depth += 1 if match[0] == "{" else -1
        if depth == 0:
            return text[1 : match.start()]
    return text[1:]


def _have_equal_cells(answer: str, reference: str) -> bool:
    rows, wanted = ([row.split("&") for row in text.split(r"\\") if row.strip()] for text in (answer, reference))
    return len(rows) == len(wanted) and all(map(_are_all_equal, rows, wanted))


def _are_all_equal(answers: list[str], references: list[str]) -> bool:
    return len(answers) == len(references) and all(map(are_equal_for_qwen, answers, references))


def _are_equal_expressions(answer: str, reference: str) -> bool:
    """An equation is compared as left minus right, or, with one that only names a value, by its right-hand side."""
    sides, wanted = answer.split("="), reference.split("=")
    if len(sides) == len(wanted) == 2:
        found, expected = (f"{left.strip()} - ({right.strip()})" for left, right in (sides, wanted))
        return _are_same_values(found, expected) or _are_same_values(f"-({found})", expected)
    if len(sides) == 2 and len(sides[0].strip()) <= 2 and len(wanted) == 1:
        return are_equal_for_qwen(sides[1], reference)
    if len(wanted) == 2 and len(wanted[0].strip()) <= 2 and len(sides) == 1:
        return are_equal_for_qwen(answer, wanted[1])
    return _are_same_values(answer, reference)


def _are_same_values(answer: str, reference: str) -> bool:
    from sympy import Expr, simplify
    from sympy.core.relational import Relational

    found, wanted = _read(answer), _read(reference)
    if isinstance(found, Relational) and isinstance(wanted, Relational):
        return found == wanted or _holds(lambda: abs(found.lhs - found.rhs).equals(abs(wanted.lhs - wanted.rhs)))
    if not isinstance(found, Expr) or not isinstance(wanted, Expr):
        return False
    if found == wanted or _are_close(_real(found), _real(wanted)):
        return True
    return _holds(lambda: found.equals(wanted)) or _holds(lambda: simplify(found - wanted) == 0)


def _read(text: str) -> Any:
    """The expression that LaTeX stands for; None where it stands for none."""
    spellings = dict.fromkeys((text.replace(r"\\", "\\"), text))
    return next((found for each in spellings if (found := _read_spelling(each)) is not None), None)


def _read_spelling(text: str) -> Any:
    from latex2sympy2_extended import latex2sympy

    text = _rewrite(text, _AS_READ_THERE)
    if _UNREAD.search(text):
        return None
    try:
        return latex2sympy(text, normalization_config=None)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - the reader raises plain Exception for what it cannot read, and more kinds for the rest
        return None


def _holds(is_true: Callable[[], object]) -> bool:
    """Return a comparison's result; False for one that sympy cannot make."""
    try:
        return bool(is_true())
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - sympy raises nearly anything for what a model may write
        return False


def _float(text: str) -> float | None:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def _real(expression: Expr) -> float | None:
    value = number(expression)
    return None if value is None or value.imag else value.real


def _are_close(found: float | None, wanted: float | None) -> bool:
    return found is not None and wanted is not None and math.isclose(found, wanted, rel_tol=_RELATIVE_ERROR)


def _rewrite(text: str, rewrites: _Rewrites) -> str:
    for pattern, replacement in rewrites:
        text = pattern.sub(replacement, text)
    return text
