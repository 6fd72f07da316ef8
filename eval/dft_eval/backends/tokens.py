"""Prompts as token ids, and token ids as text, the same for every backend that runs a model in this process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from dft_eval.backends.base import Interface, Request
from dft_eval.errors import BackendError, ConfigError


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


def cut_at_stop(text: str, stops: Iterable[str]) -> tuple[str, bool]:
    """The text before the earliest stop text, and whether there was one."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return (text[: min(places)], True) if places else (text, False)
