"""What a constant expression is worth."""

from __future__ import annotations

from typing import Any


def number(expression: Any) -> complex | None:
    """The value of a constant expression, or of the right-hand side of an equation; None for anything else."""
    from sympy import Basic, Eq

    if isinstance(expression, Eq):
        expression = expression.rhs
    if not isinstance(expression, Basic) or expression.free_symbols:
        return None
    try:
        return complex(expression)
    except (TypeError, ValueError, OverflowError):
        return None
