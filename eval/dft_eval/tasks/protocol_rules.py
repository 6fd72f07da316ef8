"""A protocol in one place: how a benchmark asks, where an answer ends, how it is read and what passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ProtocolRules:
    """One protocol of one benchmark or of several.

    Attributes:
        name: What `protocol` is set to.
        interface: Whether it asks with a text to continue or with chat messages.
        prompt: What is sent; `{...}` stands for the problem's parts.
        cut: Where an answer ends, besides its end token.
        reading: From the answer to the text that is scored.
        verdict: What passes.
        source: Where the rules come from.
        stops: Texts sent with every request; a benchmark may add its own.
    """

    name: str
    interface: Literal["completion", "chat"]
    prompt: str
    cut: str
    reading: str
    verdict: str
    source: str
    stops: tuple[str, ...] = ()
