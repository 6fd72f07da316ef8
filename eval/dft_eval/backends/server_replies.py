"""Replies of OpenAI-compatible servers as they really come: nulls, lists of parts, other words for the end."""

from __future__ import annotations

import email.utils
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from dft_eval.errors import BackendError
from dft_eval.records.schema import FinishReason

RETRIED_STATUS = frozenset({408, 409, 425, 429})
"""Of a refusal that passes; so do all from 500."""
LONGEST_RETRY_AFTER_S = 3600.0

_ENDED = frozenset(
    {
        *("stop", "stopped", "stop_sequence", "stop_token", "stop_str", "eos", "eos_token", "eos_token_id"),
        *("end_turn", "end_of_turn", "complete", "completed", "finished"),
    }
)
_CUT = frozenset({"length", "limit", "max_tokens", "max_new_tokens", "max_length", "model_length", "max_output_tokens"})
_LIMITS = (
    r"(?:maximum context length|context length|context window|max_model_len|context size|n_ctx)\D{0,20}?(\d+)",
    r"max_new_tokens`? must be <= (\d+)",
    r"context (?:length|window) of (?:only )?(\d+)",
)
_PROMPTS = (
    r"\((\d+) in (?:the )?(?:messages|prompt)",
    r"request has (\d+) input tokens",
    r"(\d+) (?:input )?tokens from the input",
    r"Given: (\d+) `inputs`",
    r"prompt contains(?: at least)? (\d+) (?:input )?tokens",
    r"(\d+) (?:prompt|input) tokens",
    r"prompt (?:length \(|has )(\d+)",
    r"messages resulted in (\d+) tokens",
    r"input \((\d+) tokens\)",
)


class Reply(NamedTuple):
    """A model's text, and how it ended."""

    text: str
    finish_reason: FinishReason


def read_reply(reply: Any, where: str, max_new_tokens: int) -> Reply:
    """The first choice of a reply.

    Without text, an answer that ran into its limit or thought aloud all the way is an empty one that was truncated.
    Where a server does not say how an answer ended, its count of tokens does.

    Args:
        reply: As the client returns it.
        where: Server and sample, for messages.
        max_new_tokens: What was asked for.

    Raises:
        BackendError: it is no such reply, or ended for a reason that is the server's.
    """
    if isinstance(reply, (str, bytes)):
        kind = "a web page" if "<" in str(reply)[:200] else "text"
        raise BackendError(f"{where}: {kind} came back, no choice. base_url is wrong: it often ends in /v1.")
    choices = _field(reply, "choices")
    if not choices or choices[0] is None:
        error = _field(reply, "error")
        told = f" ({error})" if error else ""
        raise BackendError(f"{where}: no choice came back{told}. base_url may be that of another kind of server.")
    choice, message = choices[0], _field(choices[0], "message")  # a text completion has none
    text = _text_of(_field(choice, "text") if message is None else _field(message, "content"))
    if text is None and isinstance(refusal := _field(message, "refusal"), str):
        text = refusal  # the model's own words
    given = _field(choice, "finish_reason")
    ended = _finish_reason(given, reply, max_new_tokens)
    if ended is None or (text is None and ended != "length" and not _reasoning(message)):
        raise BackendError(f"{where}: finish_reason={given!r}, text {text!r}; text is needed.")
    return Reply("", "length") if text is None else Reply(text, ended)


def _field(holder: Any, name: str) -> Any:
    """A field of a mapping or an object; None where it has none, as servers leave out what does not apply."""
    return holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)


def _text_of(content: Any) -> str | None:
    """The text of a message's content, which may be a list of parts; thoughts are none."""
    if content is None or isinstance(content, str):
        return content
    parts = content if isinstance(content, (list, tuple)) else [content]
    texts = [_part(part) for part in parts]
    found = [text for text in texts if text is not None]
    return "".join(found) if found or not parts else None


def _part(part: Any) -> str | None:
    if isinstance(part, str):
        return part
    kind, text = _field(part, "type"), _field(part, "text")
    text = text.get("value") if isinstance(text, Mapping) else text
    return text if isinstance(text, str) and kind in (None, "text", "output_text") else None


def _reasoning(message: Any) -> str | None:
    for name in ("reasoning_content", "reasoning"):
        found = _field(message, name)
        if isinstance(found, str) and found.strip():
            return found
    return None


def _finish_reason(given: Any, reply: Any, max_new_tokens: int) -> FinishReason | None:
    given = _field(given, "type") if isinstance(given, Mapping) else given
    if not given:
        written = _field(_field(reply, "usage"), "completion_tokens")
        return "length" if isinstance(written, int) and written >= max_new_tokens else "stop"
    reason = str(given).casefold()
    if reason in _ENDED:
        return "stop"
    return "length" if reason in _CUT else None


def fitting_tokens(message: str, max_new_tokens: int) -> int | None:
    """So many new tokens as a server's refusal says would fit; None where it says nothing of the kind.

    Raises:
        BackendError: the prompt alone does not fit.
    """
    limit, prompt = _first_number(_LIMITS, message), _first_number(_PROMPTS, message)
    if limit is None or prompt is None:
        return None
    if limit <= prompt:
        raise BackendError(f"the prompt has {prompt} tokens and the model holds {limit}: {message[:300]}")
    return limit - prompt if limit - prompt < max_new_tokens else None


def _first_number(patterns: tuple[str, ...], text: str) -> int | None:
    found = (re.search(pattern, text, re.IGNORECASE) for pattern in patterns)
    return next((int(match[1]) for match in found if match is not None), None)


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds a server asks to wait: `retry-after-ms`, or `Retry-After` in seconds or as a date."""
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            return min(max(0.0, float(milliseconds) / 1000), LONGEST_RETRY_AFTER_S)
        if (value := headers.get("retry-after")) is None:
            return None
        if re.fullmatch(r"\s*\d+(?:\.\d+)?\s*", value):
            return min(float(value), LONGEST_RETRY_AFTER_S)
        date = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None  # not written as the standard has it
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    wait = (date - (now or datetime.now(UTC))).total_seconds()
    return min(max(0.0, wait), LONGEST_RETRY_AFTER_S)
