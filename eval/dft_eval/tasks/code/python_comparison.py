"""Comparison of a Python program's answers with the expected ones; sent into the tester's sandbox as text."""

from __future__ import annotations

import math
from typing import Any

from dft_eval.tasks.code.python_values import LongText

_MAX_DECIMAL_BITS = 1024


def show(value: Any) -> str:
    """A value for people, short and in short time."""
    if isinstance(value, int) and value.bit_length() > _MAX_DECIMAL_BITS:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, LongText):
        return f"a text of {value.num_characters} characters"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__} of {len(value)}: " + ", ".join(show(item) for item in value[:5])[:80]
    return repr(value)[:80] if isinstance(value, (bool, int, float, str)) else type(value).__name__


def is_close(out: Any, expected: Any, atol: float) -> bool:
    """`numpy.allclose(out, expected, rtol=1e-07, atol=atol)` for numbers and nested sequences of one shape."""
    if isinstance(expected, (list, tuple)):
        return (
            isinstance(out, (list, tuple))
            and len(out) == len(expected)
            and all(is_close(one, other, atol) for one, other in zip(out, expected, strict=True))
        )
    if not isinstance(out, (int, float)) or not isinstance(expected, (int, float)):
        raise TypeError(f"no numbers: {type(out).__name__} and {type(expected).__name__}")
    return bool(out == expected or abs(out - expected) <= atol + 1e-07 * abs(expected) < math.inf)


def is_floats(value: Any) -> bool:
    """Return True where EvalPlus compares with a tolerance: a float, or a non-empty sequence of floats."""
    if isinstance(value, (list, tuple)):
        return bool(value) and all(isinstance(item, float) for item in value)
    return isinstance(value, float)
