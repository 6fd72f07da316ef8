"""Compares pairs of answers: `[answer, gold]` a line in, `true` or `false` a line out.

Run as a script by VLMEvalKit's interpreter, in which `latex2sympy2_extended` is.
"""

from __future__ import annotations

import ast
import json
import operator
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

CPU_LIMIT_S = 30.0
_MEMORY_LIMIT_BYTES = 4 << 30
_MAX_BITS = 1 << 20
_TOLERANCE = 1e-6
_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


def are_equal(answer: str, gold: str) -> bool:
    """Equal as text, as arithmetic, or as LaTeX whose value is arithmetic."""
    from latex2sympy2_extended import latex2sympy

    answer, gold = answer.lower().strip(), gold.lower().strip()
    if answer == gold:
        return True
    try:
        if abs(calculate(gold) - calculate(answer)) < _TOLERANCE:
            return True
    except Exception:  # noqa: BLE001 - most answers are no arithmetic
        pass
    try:
        value, expected = str(latex2sympy(answer)), str(latex2sympy(gold))
        return bool(abs(calculate(expected) - calculate(value)) < _TOLERANCE)
    except Exception:  # noqa: BLE001 - nor LaTeX
        return False


def calculate(text: str) -> Any:
    """The value of numbers under `+ - * / // % **`.

    Raises:
        ValueError: anything else, or a number beyond a million bits.
    """
    return _calculate(ast.parse(text.strip(), mode="eval").body)


def _calculate(node: ast.AST) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float, complex)):
        return node.value
    if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_calculate(node.operand))
    if isinstance(node, ast.BinOp):
        left, right = _calculate(node.left), _calculate(node.right)
        if isinstance(node.op, ast.Pow):
            if isinstance(left, int) and isinstance(right, int) and abs(right) * left.bit_length() > _MAX_BITS:
                raise ValueError("a number too large")
            return left**right
        if type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](left, right)
    raise ValueError(f"{type(node).__name__} is no arithmetic")


def main() -> None:
    """Serve pairs until stdin ends."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT_BYTES, _MEMORY_LIMIT_BYTES))
    for line in sys.stdin:
        answer, gold = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT_S)
        verdict = are_equal(answer, gold)
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write(json.dumps(verdict) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
