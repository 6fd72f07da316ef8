"""Prompts as token ids, and token ids as text, the same for every backend that runs a model in this process."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from dft_eval.backends.base import Interface, Request
from dft_eval.end_tokens import END_TOKENS
from dft_eval.errors import BackendError, ConfigError

logger = logging.getLogger(__name__)


def check_template(tokenizer: Any, model: str, interface: Interface) -> None:
    """Chat needs the tokenizer's own template.

    Raises:
        ConfigError: it has none; a template is never made up.
    """
    if interface == "chat" and not tokenizer.chat_template:
        raise ConfigError(
            f"interface: chat, but the tokenizer of {model} has no chat template. Set `interface: completion`, or "
            "save the template the model was trained with beside it (chat_template.jinja)."
        )


def encode_prompt(request: Request, tokenizer: Any, interface: Interface) -> list[int]:
    """Token ids of a prompt.

    A text gets the special tokens the tokenizer itself puts in front; chat messages get the template's alone.

    Raises:
        BackendError: the prompt has no token.
    """
    prompt: Any = request.sample.prompt
    if interface == "chat":
        messages = [dict(message) for message in prompt]
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    token_ids = list(tokenizer(prompt, add_special_tokens=interface == "completion")["input_ids"])
    if not token_ids:
        raise BackendError(f"the prompt of {request.sample.sample_id} has no token.")
    return token_ids


def encode_continuation(request: Request, tokenizer: Any) -> tuple[list[int], int]:
    """Token ids of a prompt with its given continuation, and how many of them are the continuation's.

    Both are made tokens of together, as a model reads them; a token that holds the end of the prompt and the beginning
    of the continuation belongs to the continuation.

    Raises:
        BackendError: the continuation has no token.
    """
    prompt = list(tokenizer(request.sample.prompt)["input_ids"])
    whole = list(tokenizer(str(request.sample.prompt) + request.sample.continuation)["input_ids"])
    same = 0
    while same < min(len(prompt), len(whole)) and prompt[same] == whole[same]:
        same += 1
    if same == len(whole) or same == 0:
        raise BackendError(f"the continuation of {request.sample.sample_id} has no token of its own.")
    return whole, len(whole) - same


def collect_eos_ids(*sources: int | Sequence[int] | None) -> list[int]:
    """End-of-sequence tokens of tokenizer, model and its generation settings together.

    Raises:
        BackendError: there is none, so that no answer would ever end.
    """
    found: set[int] = set()
    for source in sources:
        found |= {source} if isinstance(source, int) else set(source or ())
    if not found:
        raise BackendError("neither tokenizer nor model names an end-of-sequence token; set eos_token_id in its files.")
    return sorted(found)


def end_token_ids(tokenizer: Any) -> list[int]:
    """End tokens of any family among the tokenizer's special ones: its own settings often name one of several."""
    known = tokenizer.get_added_vocab()
    return sorted(known[token] for token in END_TOKENS if token in known)


def check_lengths(lengths: Sequence[tuple[Request, int]], limit: int | None) -> None:
    """Log once that answers have less room than was asked for.

    Args:
        lengths: Requests with the tokens of their prompts.
        limit: Tokens the model holds; None where it states none.

    Raises:
        BackendError: a prompt leaves no room at all.
    """
    tight = [] if limit is None else [each for each in lengths if each[1] + each[0].max_new_tokens > limit]
    for request, num_tokens in tight:
        if limit is not None and num_tokens >= limit:
            raise BackendError(
                f"{request.sample.sample_id} has {num_tokens} prompt tokens; the model holds {limit} with its answer."
            )
    if tight:
        request, num_tokens = tight[0]
        logger.warning(
            "%d of %d prompts leave less room than max_new_tokens: %s has %d tokens and may write %d, the model holds "
            "%d. Answers that reach the end of the room are recorded as truncated.",
            len(tight),
            len(lengths),
            request.sample.sample_id,
            num_tokens,
            request.max_new_tokens,
            limit,
        )


def cut_at_stop(text: str, stops: Iterable[str]) -> tuple[str, bool]:
    """The text before the earliest stop text, and whether there was one."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return (text[: min(places)], True) if places else (text, False)
