"""Rows as token ids and labels, the way they would be trained.

Each part of a text, prompt or response, is tokenized on its own and the parts are joined, as LLaMA-Factory and
ms-swift do. Only texts of templates with generation markers are tokenized whole, because the markers
refer to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from dft_plugin.encoding.chat_template import ChatTemplate, Part, chat_template_of
from dft_plugin.encoding.datasets import Dataset
from dft_plugin.encoding.images import place_images
from dft_plugin.encoding.interface import Interface
from dft_plugin.encoding.row_formats import CONVERSATIONS, Row
from dft_plugin.errors import ConfigError, InputError

IGNORED = -100
Status = Literal["ok", "no_target", "too_long"]


@dataclass(frozen=True)
class Sample:
    """A row ready for the model.

    Attributes:
        row: The row.
        status: `no_target` where cutting to the longest length left no response, `too_long` where it would have
            cut an image; both are counted and not measured.
        input_ids: Token ids.
        labels: The same, or -100 where there is no loss.
        is_truncated: Whether the end was cut off.
        tensors: The processor's other inputs, for rows with images.
    """

    row: Row
    status: Status
    input_ids: list[int]
    labels: list[int]
    is_truncated: bool
    tensors: dict[str, Tensor] = field(default_factory=dict)


def choose_interface(asked: Interface | None, datasets: Sequence[Dataset], template: str | None) -> Interface:
    """The interface that was asked for, or chat where that is certain.

    Raises:
        ConfigError: it is not, or it cannot be done.
    """
    others = [dataset for dataset in datasets if dataset.format not in CONVERSATIONS]
    if asked is None:
        if template and not others:
            return "chat"
        reason = (
            f"the rows of {others[0].path} are {others[0].format!r}, not conversations"
            if others
            else "the tokenizer has no chat template"
        )
        raise ConfigError(f"{reason}; say how they are trained: --chat (by the chat template) or --completion.")
    if asked == "chat" and not template:
        raise ConfigError(
            "--chat: the tokenizer has no chat template; add the one you will train with, or --completion."
        )
    if asked == "chat" and any(dataset.format == "text" for dataset in others):
        raise ConfigError("--chat: rows of plain text have no turns; use --completion, or scan them on their own.")
    return asked


class Encoder:
    """Makes samples.

    Args:
        tokenizer: A transformers tokenizer.
        processor: The processor of an image model, or None.
        interface: How texts are put together.
        max_length: Most tokens of a sample; what is longer is cut at the end.
    """

    def __init__(self, tokenizer: Any, processor: Any, interface: Interface, max_length: int) -> None:
        self._tokenizer = tokenizer
        self._processor = processor
        self._max_length = max_length
        self._start = _start_tokens(tokenizer) if interface == "completion" else []
        self._template: ChatTemplate | None = None
        if interface == "chat":
            template = chat_template_of(tokenizer, processor)
            assert template is not None  # choose_interface made sure
            self._template = ChatTemplate(tokenizer, template, has_parts=processor is not None)

    def encode(self, row: Row) -> Sample:
        """One row.

        Raises:
            InputError: it cannot be encoded with certainty; the message names it.
        """
        try:
            return self._encode(row)
        except InputError as error:
            raise InputError(f"dataset {row.dataset!r}, {row.where}: {error}") from None

    def _encode(self, row: Row) -> Sample:
        tensors: dict[str, Tensor] = {}
        if self._template is not None and self._template.has_markers and not row.images:
            input_ids, is_trained = self._template.marked_tokens(row.turns)
        else:
            parts = self._template.parts(row.turns) if self._template is not None else self._completion(row)
            input_ids, is_trained = self._tokens(parts)
            if row.images:
                text = "".join(part.text for part in parts)
                placed = place_images(self._processor, text, input_ids, row.images)
                input_ids, tensors = placed.input_ids, placed.tensors
                is_trained = [is_trained[index] for index in placed.counterpart]
        if self._template is None:  # not part of the text, so that no tokenizer can split it
            input_ids = [*self._start, *input_ids, self._tokenizer.eos_token_id]
            is_trained = [False] * len(self._start) + is_trained + [True]
        if not any(is_trained):
            raise InputError("no token of the row is trained.")
        return self._cut(row, input_ids, is_trained, tensors)

    def _completion(self, row: Row) -> list[Part]:
        if row.text:
            return [Part(row.text, True)]
        if [turn.role for turn in row.turns] != ["user", "assistant"]:
            raise InputError(
                "--completion takes one prompt and one response a row, without system or history; use --chat."
            )
        if row.images:
            raise InputError("--completion takes no images; use --chat.")
        return [Part(row.turns[0].content, False), Part(row.turns[1].content, True)]

    def _tokens(self, parts: Sequence[Part]) -> tuple[list[int], list[bool]]:
        input_ids: list[int] = []
        is_trained: list[bool] = []
        for part in parts:
            ids = self._tokenizer(part.text, add_special_tokens=False)["input_ids"]
            input_ids += ids
            is_trained += [part.is_trained] * len(ids)
        return input_ids, is_trained

    def _cut(self, row: Row, input_ids: list[int], is_trained: list[bool], tensors: dict[str, Tensor]) -> Sample:
        length = len(input_ids)
        end = min(length, self._max_length)
        labels = [token if keep else IGNORED for token, keep in zip(input_ids, is_trained, strict=True)]
        status: Status = "ok" if any(is_trained[1:end]) else "no_target"
        if row.images and end < length:
            image_id = self._processor.tokenizer.convert_tokens_to_ids(self._processor.image_token)
            status = "too_long" if image_id in input_ids[end:] else status
        of_tokens = {key for key, value in tensors.items() if value.shape[:2] == (1, length)}
        cut = {key: value[:, :end] if key in of_tokens else value for key, value in tensors.items()}
        return Sample(row, status, input_ids[:end], labels[:end], end < length, cut)


def _start_tokens(tokenizer: Any) -> list[int]:
    """Return the tokens that the tokenizer puts before any text: none, or one."""
    if tokenizer.eos_token_id is None:
        raise ConfigError("--completion: the tokenizer has no end-of-sequence token to end a response with.")
    start = list(tokenizer("")["input_ids"])
    if start not in ([], [tokenizer.bos_token_id]):
        raise ConfigError(
            f"--completion: the tokenizer puts {start} around a text; at most one start token is accepted."
        )
    return start
