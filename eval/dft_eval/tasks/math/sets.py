"""Inequalities in one symbol as sets of real numbers."""

from __future__ import annotations

from typing import Any


def is_inequality(expression: Any) -> bool:
    r"""Tell an inequality, a chain of them, or several joined by `or` from everything else.

    The reader gives `x<1 \text{ or } x>2` as the two relations in a finite set, as it does for a list of values.
    """
    from sympy import And, FiniteSet, Or
    from sympy.core.relational import Relational

    if isinstance(expression, FiniteSet) and expression.args:
        return all(isinstance(each, Relational | And) for each in expression.args)
    return isinstance(expression, Relational | And | Or)


def as_set(expression: Any) -> Any:
    """Return the set that an inequality in one symbol describes, or the set it is; None for anything else."""
    from sympy import FiniteSet, Set, Union

    if not is_inequality(expression):
        return expression if isinstance(expression, Set) and not expression.free_symbols else None
    if len(expression.free_symbols) != 1:
        return None
    try:
        if isinstance(expression, FiniteSet):
            return Union(*(each.as_set() for each in expression.args))
        return expression.as_set()
    except (NotImplementedError, TypeError, ValueError, AttributeError):
        return None


def as_conjunction(expression: Any) -> Any:
    r"""Read inequalities in one symbol that the reader listed as holding at once: `x>1 \text{ and } x<3` is `(1,3)`.

    Everything else stays as it is: `x=1 \text{ and } x=2` are two solutions.
    """
    from sympy import And, FiniteSet
    from sympy.core.relational import Equality, Relational, Unequality

    if not isinstance(expression, FiniteSet) or len(expression.free_symbols) != 1:
        return expression
    parts = [one for each in expression.args for one in (each.args if isinstance(each, And) else (each,))]
    is_all = all(isinstance(one, Relational) and not isinstance(one, Equality | Unequality) for one in parts)
    return And(*parts) if parts and is_all else expression


def is_empty(expression: Any) -> bool:
    """Tell inequalities that nothing fulfils."""
    from sympy import EmptySet, false

    return expression is false or as_set(expression) is EmptySet
