"""Code that runs inside VLMEvalKit's interpreter: standard library and `vlmeval` only, nothing else of this package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Emit = Callable[[Mapping[str, Any]], None]
"""Sends one message to the parent; may be called from any thread."""


class Message(list[dict[str, str]]):
    """A prompt of VLMEvalKit that knows its row.

    Attributes:
        row: The row's index, as text.
    """

    row = ""
