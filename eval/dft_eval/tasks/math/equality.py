"""Equality of an answer and a reference: math-verify's comparison, made stricter where it accepts too much."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from dft_eval.tasks.math.reading import Reading, read_candidates, read_reference
from dft_eval.tasks.math.sets import as_set, is_inequality
from dft_eval.tasks.math.values import are_close, number

_SMALL = 1e-2
_RELATIVE = 1e-3
_CALL = re.compile(r"[A-Za-z]\w*\([^()=]*\d[^()=]*\)=")
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
    if not _name_the_same(gold.text, given.text) or gold.is_open != given.is_open:
        return False
    if (given.choice and given.choice in (gold.choice, gold.text)) or (gold.choice and gold.choice == given.text):
        return True
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
    if _CALL.match(gold.text) and one is not gold.expression and other is given.expression:
        return _are_equal_expressions(one, other)  # `f(2)=5` asks for 5
    return _are_equal_expressions(gold.expression, given.expression)


def _are_equal_expressions(gold: Any, given: Any) -> bool:
    from math_verify import verify

    if _contradict(gold, given):
        return False
    if not (verify(gold, given, timeout_seconds=None) or _are_one_set(gold, given) or _are_one_root(gold, given)):
        return False
    return _agree_where_small(_value(gold), _value(given))


def _agree_where_small(gold: Any, given: Any) -> bool:
    """Compare by relative error what math-verify rounds to six decimals, after which any tiny number is 0.

    Members of tuples, intervals, sets and matrices are compared one by one.
    """
    from sympy import FiniteSet, Interval, MatrixBase, Tuple, Union

    if isinstance(gold, FiniteSet) and isinstance(given, FiniteSet):
        return all(any(_agree_where_small(one, other) for other in given.args) for one in gold.args)
    if isinstance(gold, Tuple | Interval | MatrixBase | Union | FiniteSet):
        members, others = _parts(gold), _parts(given)
        return len(members) != len(others) or all(map(_agree_where_small, members, others))
    if not hasattr(gold, "free_symbols") or gold.free_symbols:
        return True
    value = number(gold)
    if value is None or abs(value) >= _SMALL or gold.is_zero:
        return value is None or abs(value) >= _SMALL or _is_zero(given)
    return bool(are_close(gold, given, relative=_RELATIVE))


def _is_zero(expression: Any) -> bool:
    """Tell zero from a number that is only too small to print."""
    value = getattr(expression, "is_zero", None)
    return value is not False


def _parts(expression: Any) -> list[Any]:
    from sympy import Interval, MatrixBase

    if isinstance(expression, Interval):
        return [expression.start, expression.end]
    return list(expression.flat() if isinstance(expression, MatrixBase) else getattr(expression, "args", ()))


def _are_one_set(gold: Any, given: Any) -> bool:
    """Compare inequalities with the intervals they describe, and with others in the same symbol."""
    are_inequalities = is_inequality(gold), is_inequality(given)
    if not any(are_inequalities) or (all(are_inequalities) and gold.free_symbols != given.free_symbols):
        return False
    one, other = as_set(gold), as_set(given)
    return one is not None and bool(one == other)


def _are_one_root(gold: Any, given: Any) -> bool:
    r"""Compare `\sqrt{1/n}` with `1/\sqrt{n}`: roots of quotients and products, taken apart."""
    from sympy import Expr, Pow, Rational, expand_power_base, simplify

    if not all(isinstance(each, Expr) and each.free_symbols for each in (gold, given)):
        return False
    if not any(power.exp.is_Rational and power.exp.q > 1 for power in gold.atoms(Pow)):
        return False

    def apart(expression: Any) -> Any:
        found = expand_power_base(expression, force=True)
        return found.replace(
            lambda each: each.is_Pow and each.base.is_Pow and each.base.exp == Rational(-1),
            lambda each: Pow(each.base.base, -each.exp),
        )

    return bool(simplify(apart(gold) - apart(given)) == 0)


def _contradict(gold: Any, given: Any) -> bool:
    """Tell relations that give one left-hand side two values: math-verify takes `f(2)=6` for `f(2)=5`."""
    one, other = _relations(gold), _relations(given)
    return any(left in other and not _are_equal_expressions(right, other[left]) for left, right in one.items())


def _relations(expression: Any) -> dict[Any, Any]:
    """Right-hand sides by kind and left-hand side, of those left-hand sides that stand in one relation alone."""
    from sympy import FiniteSet, Tuple
    from sympy.core.relational import Relational

    members = expression.args if isinstance(expression, FiniteSet | Tuple) else (expression,)
    found = [((type(each), each.lhs), each.rhs) for each in members if isinstance(each, Relational)]
    lefts = [left for left, _ in found]
    return {left: right for left, right in found if lefts.count(left) == 1}


def _name_the_same(gold: str, given: str) -> bool:
    """Compare what stands before `=`, where both name a value of a function: `f(2)=5` is not `f(3)=5`."""
    one, other = _CALL.match(gold), _CALL.match(given)
    return one is None or other is None or one[0] == other[0]


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
