"""Whether an answer equals a reference: math-verify's comparison, and what it is too generous in."""

from __future__ import annotations

from typing import Any, NamedTuple

from dft_eval.tasks.math.reading import Reading, read_candidates, read_reference
from dft_eval.tasks.math.values import number

_SMALL = 1e-2
_UNREAD = "{} cannot be read as an expression: compared as text"


class Equality(NamedTuple):
    """The outcome of a comparison."""

    is_equal: bool
    message: str
    """How it was made, where not between expressions; empty otherwise."""


def compare_answer(reference: str, answer: str) -> Equality:
    """Compare an answer with a reference, both normalised LaTeX.

    As text first, then as names, then as expressions. Where one of the two cannot be read as a whole, equal texts alone
    are equal: no part of it stands for the whole.
    """
    gold = read_reference(reference)
    candidates = []
    for given in read_candidates(answer, gold):
        candidates.append(given)
        if _are_equal(gold, given):
            return Equality(True, "" if gold.expression is not None else _UNREAD.format("the reference"))
    if gold.expression is None:
        return Equality(False, _UNREAD.format("the reference"))
    is_read = any(given.expression is not None for given in candidates)
    return Equality(False, "" if is_read else _UNREAD.format("the answer"))


def _are_equal(gold: Reading, given: Reading) -> bool:
    if gold.base and given.base and gold.base != given.base:
        return False
    if gold.text == given.text or (gold.is_wrapped and gold.word and gold.word == given.word):
        return True
    if gold.expression is None or given.expression is None:
        return False
    one, other = _value(gold.expression), _value(given.expression)
    if _is_set_against_pair(one, other) or _is_set_against_pair(other, one):
        # math-verify takes them for each other: `\\{2,3\\}` for `(2,3)`, and a list in any order for a pair
        has_braces = gold.is_braced or given.is_braced
        members, others = _members(one), _members(other)
        return not has_braces and len(members) == len(others) and all(map(_are_equal_expressions, members, others))
    return _are_equal_expressions(gold.expression, given.expression)


def _are_equal_expressions(gold: Any, given: Any) -> bool:
    from math_verify import verify

    if not verify(gold, given, timeout_seconds=None):
        return False
    # math-verify rounds numbers to six decimals, after which 2.88e-19 is any tiny number, and 0
    value = number(gold)
    if value is None or value == 0 or abs(value) >= _SMALL:
        return True
    found = number(given)
    return found is not None and abs(found - value) <= 1e-3 * abs(value)


def _is_set_against_pair(one: Any, other: Any) -> bool:
    from sympy import FiniteSet, Interval, Tuple

    return isinstance(one, FiniteSet) and isinstance(other, Tuple | Interval)


def _members(expression: Any) -> list[Any]:
    """In the order they were written; of an interval its ends, none where it is not written like a pair."""
    from sympy import Interval

    if isinstance(expression, Interval):
        return [expression.start, expression.end] if expression.left_open and expression.right_open else []
    return list(getattr(expression, "_unsorted_args", expression.args))


def _value(expression: Any) -> Any:
    r"""The right-hand side of an equation such as `x \in \{1, 2\}`; anything else as it is."""
    from sympy import Eq

    return expression.rhs if isinstance(expression, Eq) else expression
