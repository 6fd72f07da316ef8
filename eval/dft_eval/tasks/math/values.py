"""Worth of constant expressions."""

from __future__ import annotations

from typing import Any

_DIGITS = 15
_LARGEST_EXPONENT = 100_000


def number(expression: Any) -> complex | None:
    """Return the value of a constant expression, or of the right-hand side of an equation; None for anything else."""
    from sympy import Basic, Eq

    if isinstance(expression, Eq):
        expression = expression.rhs
    if not isinstance(expression, Basic) or expression.free_symbols:
        return None
    try:
        return complex(expression)
    except (TypeError, ValueError, OverflowError):
        return None


def are_close(one: Any, other: Any, *, relative: float) -> bool | None:
    """Compare two constants to a relative error, however small or large they are.

    Returns:
        None where one of them is no number, or is zero.
    """
    from sympy import Expr

    if not all(isinstance(each, Expr) and not each.free_symbols for each in (one, other)):
        return None
    try:
        first, second = one.evalf(_DIGITS), other.evalf(_DIGITS)
        if not (first.is_number and second.is_number and first.is_finite and second.is_finite) or not (
            first and second
        ):
            return None
        return bool(abs((second - first) / first) <= relative)
    except (TypeError, ValueError, OverflowError, ArithmeticError):
        return None
