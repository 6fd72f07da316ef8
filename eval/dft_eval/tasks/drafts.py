"""Drafts that a model thinks aloud before its answer, in `<think>` and the like: no part of the answer."""

from __future__ import annotations

import re

_NAMES = "think|thinking|thought|thoughts|reasoning|reflection|scratchpad|analysis|seed:think"
_DRAFT = re.compile(rf"<({_NAMES})>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_END = re.compile(rf"</(?:{_NAMES})>", re.IGNORECASE)


def without_drafts(response: str) -> str:
    """Return what stands outside the drafts; empty where a response is nothing else."""
    text = _DRAFT.sub("", response)
    ends = list(_END.finditer(text))  # a template opened it in the prompt
    return text[ends[-1].end() :] if ends else text
