"""A conversation as its tokenizer's own chat template writes it, with the part that is trained.

The loss is on the assistant's turns. A template with generation markers says itself where they are. Of any other,
the text up to an assistant turn is rendered with and without it: what the turn adds is trained, from after the
generation prompt to whatever closes the turn. Where the shorter text is not the beginning of the longer one, the
template rewrites earlier turns, and the row is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from dft_plugin.encoding.row_formats import IMAGE_MARK, Turn
from dft_plugin.errors import ConfigError, InputError

_MARKER = re.compile(r"\{%-?\s*generation\s*-?%\}")


class Part(NamedTuple):
    """A stretch of the text.

    Attributes:
        text: The text.
        is_trained: Whether its tokens carry loss.
    """

    text: str
    is_trained: bool


def chat_template_of(tokenizer: Any, processor: Any = None) -> str | None:
    """The template's text; the processor's goes before the tokenizer's. None where there is none."""
    template = getattr(processor, "chat_template", None) or tokenizer.chat_template  # absent without a processor
    if isinstance(template, dict):
        if "default" not in template:
            raise ConfigError(f"the tokenizer has several chat templates, none called 'default': {sorted(template)}.")
        template = template["default"]
    return template or None


class ChatTemplate:
    """One tokenizer's template.

    Args:
        tokenizer: A transformers tokenizer.
        template: The template's text.
        has_parts: Whether it is given contents as lists of parts, as templates of image models want them.
    """

    def __init__(self, tokenizer: Any, template: str, *, has_parts: bool) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._has_parts = has_parts
        self.has_markers = bool(_MARKER.search(template))

    def parts(self, turns: Sequence[Turn]) -> list[Part]:
        """Text in front of each assistant turn, and the turn.

        Raises:
            InputError: the template refuses the conversation, or rewrites earlier turns.
        """
        whole = self._render(turns)
        parts: list[Part] = []
        done = ""
        for index, turn in enumerate(turns):
            if turn.role != "assistant":
                continue
            before = self._render(turns[:index], add_generation_prompt=True)
            after = self._render(turns[: index + 1])
            if not (whole.startswith(after) and after.startswith(before) and before.startswith(done)):
                raise InputError(
                    f"the chat template writes turn {index + 1} otherwise once more turns follow, so which tokens are "
                    "trained is not certain. Use a template with generation markers, or one response a row."
                )
            parts += [Part(before[len(done) :], False), Part(after[len(before) :], True)]
            if turn.content.strip() not in parts[-1].text:
                raise InputError(f"the chat template changes what the assistant says in turn {index + 1}.")
            done = after
        if done != whole:
            raise InputError("the chat template writes more after the last assistant turn.")
        return parts

    def marked_tokens(self, turns: Sequence[Turn]) -> tuple[list[int], list[bool]]:
        """Token ids of the whole conversation, and which of them the template's markers say are trained."""
        if not self._tokenizer.is_fast:
            raise ConfigError("the chat template has generation markers; reading them needs a fast tokenizer.")
        encoded = self._tokenizer.apply_chat_template(
            self._messages(turns), chat_template=self._template, return_dict=True, return_assistant_tokens_mask=True
        )
        return list(encoded["input_ids"]), [bool(mark) for mark in encoded["assistant_masks"]]

    def _render(self, turns: Sequence[Turn], *, add_generation_prompt: bool = False) -> str:
        from jinja2 import TemplateError

        try:
            text = self._tokenizer.apply_chat_template(
                self._messages(turns),
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
            )
        except TemplateError as error:
            raise InputError(f"the chat template refuses the conversation: {error}.") from None
        if self._has_parts and "'type': " in text and not any("'type': " in turn.content for turn in turns):
            raise InputError("the chat template writes a list of parts as it is; it is not one for images.")
        return str(text)

    def _messages(self, turns: Sequence[Turn]) -> list[dict[str, Any]]:
        return [{"role": turn.role, "content": self._content(turn)} for turn in turns]

    def _content(self, turn: Turn) -> str | list[dict[str, str]]:
        if not self._has_parts:
            return turn.content
        content: list[dict[str, str]] = []
        for index, text in enumerate(turn.content.split(IMAGE_MARK)):
            content += [{"type": "image"}] if index else []
            content += [{"type": "text", "text": text}] if text else []
        return content
