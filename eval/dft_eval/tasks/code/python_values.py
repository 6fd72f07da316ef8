"""Plain values as they travel between a program's process and its tester.

This file is sent into both sandboxes as text and uses the standard library only. `decimal` and `fractions` are loaded
only where such a value is met: most programs need neither.
"""

from __future__ import annotations

import collections.abc
import sys
from typing import Any

_MAX_DEPTH = 200
_MAX_DECIMAL_BITS = 1024
_MAX_TEXT_CHARACTERS = 1 << 16
_PLAIN = (bool, int, float, str, type(None))


class Opaque:
    """Something that is no plain value; equal to nothing."""


class LongText:
    """A text by its digest: 150 MB need not travel to be compared."""

    def __init__(self, num_characters: int, sha256: str) -> None:
        self.num_characters, self.sha256 = num_characters, sha256

    def __eq__(self, other: object) -> bool:
        return type(other) is LongText and (self.num_characters, self.sha256) == (other.num_characters, other.sha256)

    __hash__ = None  # type: ignore[assignment]


class SubInt(int):
    """An integer of another type than int, for example NumPy's."""


class SubFloat(float):
    """A float of another type than float."""


class SubStr(str):
    """A string of another type than str."""


class SubList(list):  # type: ignore[type-arg]
    """A list of another type than list."""


class SubTuple(tuple):  # type: ignore[type-arg]
    """A tuple of another type than tuple."""


class SubDict(dict):  # type: ignore[type-arg]
    """A dictionary of another type than dict."""


class SubSet(set):  # type: ignore[type-arg]
    """A set of another type than set."""


def encode(value: Any, depth: int = 0) -> Any:
    """A value as JSON; what is no plain value becomes opaque."""
    kind = type(value)
    if depth > _MAX_DEPTH:
        return ["opaque"]
    if kind is int and value.bit_length() > _MAX_DECIMAL_BITS:
        return ["hex", f"{value:x}"]  # decimal digits of a huge integer take quadratic time
    if kind in _PLAIN:
        return value
    if isinstance(value, complex):
        return ["complex", value.real, value.imag]
    if isinstance(value, (bytes, bytearray)):
        return ["bytes", list(value)]
    if _is(value, "decimal", "Decimal"):
        return ["decimal", str(value)]
    if _is(value, "fractions", "Fraction"):
        return ["fraction", encode(value.numerator), encode(value.denominator)]
    base: Any
    sequence: Any
    for base, name in ((int, "int"), (float, "float"), (str, "str")):
        if isinstance(value, base):
            return [f"sub{name}", encode(base.__add__(value, base()))]  # not what the type itself says it is
    if kind.__module__ == "numpy" and getattr(value, "shape", None) == ():
        item = value.item()
        return item if isinstance(item, bool) else _sub(item)
    for sequence, name in ((list, "list"), (tuple, "tuple")):
        if isinstance(value, sequence):
            prefix = "" if kind is sequence else "sub"
            return [prefix + name, [encode(item, depth + 1) for item in sequence.__iter__(value)]]
    if isinstance(value, dict):
        items = [[encode(key, depth + 1), encode(item, depth + 1)] for key, item in dict.items(value)]
        return ["dict" if kind is dict else "subdict", items]
    if isinstance(value, collections.abc.Set):
        return ["set" if kind in (set, frozenset) else "subset", [encode(item, depth + 1) for item in value]]
    return ["text", value.num_characters, value.sha256] if isinstance(value, LongText) else ["opaque"]


def encode_briefly(value: Any) -> Any:
    """Like `encode`, but a long text becomes its digest.

    The function's process may claim any digest, as it may claim any text: it does not know the right one.
    """
    import hashlib  # few programs need it

    if not isinstance(value, str) or str.__len__(value) <= _MAX_TEXT_CHARACTERS:
        return encode(value)
    content = str.encode(value, "utf-8", "surrogatepass")
    return ["text", str.__len__(value), hashlib.sha256(content).hexdigest()]


def _is(value: Any, module: str, name: str) -> bool:
    """Return True for a value of this type; False where the type's module is not loaded."""
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(value, kind)


def _decimal(text: str) -> Any:
    import decimal

    return decimal.Decimal(text)


def _fraction(numerator: int, denominator: int) -> Any:
    import fractions

    return fractions.Fraction(numerator, denominator)


def _sub(item: Any) -> Any:
    return [f"sub{type(item).__name__}", encode(item)] if type(item) in (int, float, str) else ["opaque"]


def decode(value: Any) -> Any:
    """The value `encode` was given, or raises for anything `encode` does not write."""
    if not isinstance(value, list):
        return value
    kind, *content = value
    if kind in _SCALARS:
        return _SCALARS[kind](*map(decode, content))
    if kind == "bytes":
        return bytes(content[0])
    if kind in _COLLECTIONS:
        return _COLLECTIONS[kind](decode(item) for item in content[0])
    if kind in ("dict", "subdict"):
        pairs = {decode(key): decode(item) for key, item in content[0]}
        return pairs if kind == "dict" else SubDict(pairs)
    if kind == "opaque":
        return Opaque()
    raise ValueError(f"kind {kind!r}")


_SCALARS: dict[str, Any] = {
    "hex": lambda digits: int(digits, 16),
    "text": LongText,
    "complex": complex,
    "decimal": _decimal,
    "fraction": _fraction,
    "subint": SubInt,
    "subfloat": SubFloat,
    "substr": SubStr,
}
_COLLECTIONS: dict[str, Any] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "sublist": SubList,
    "subtuple": SubTuple,
    "subset": SubSet,
}
