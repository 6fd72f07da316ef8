"""The way prompts and responses are put together: by the chat template, or one right after the other."""

from __future__ import annotations

from typing import Literal

from dft_plugin.errors import ConflictError

Interface = Literal["chat", "completion"]


def asked_interface(*, chat: bool, completion: bool) -> Interface | None:
    """The interface of the switches --chat and --completion; None for neither.

    Raises:
        ConflictError: both.
    """
    if chat and completion:
        raise ConflictError("--chat and --completion; one is accepted.")
    return "chat" if chat else "completion" if completion else None
