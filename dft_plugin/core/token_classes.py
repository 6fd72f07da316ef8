"""Classes of tokens: the end of a turn, a template marker, a digit, code, text about an image, or other.

The classes are a reading aid. They are decided by the token's own text alone, except for `image_adjacent`,
which looks at where the token stands.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

CLASSES = ("eos", "template", "digits", "code", "image_adjacent", "other")
EOS, TEMPLATE, DIGITS, CODE, IMAGE_ADJACENT, OTHER = range(len(CLASSES))
NUM_IMAGE_ADJACENT = 8
# Of code and markup; parentheses, quotes and arithmetic signs are as common in prose.
CODE_CHARACTERS = frozenset("{}[]<>;=_\\`|&~^@")
# Ends of a text or of a turn in published vocabularies, besides the tokenizer's own eos_token.
# fmt: off
END_TOKENS = frozenset({
    "</s>", "<eos>", "[EOS]", "<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|eot|>",
    "<|end_of_text|>", "<|end|>", "<|return|>", "<end_of_turn>", "<|END_OF_TURN_TOKEN|>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>",
})
# fmt: on
_SPACES, _LINE_MARKS = "Ġ▁ ", "Ċčĉ\n\r\t"  # byte-level BPE writes space, \n, \r, \t as Ġ, Ċ, č, ĉ; sentencepiece ▁
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenClasses:
    """The class of every token of a vocabulary.

    Args:
        table: Token id -> index into `CLASSES`, int64, shape (V,).
    """

    def __init__(self, table: Tensor) -> None:
        self.table = table
        self._on_device = {table.device: table}

    @classmethod
    def of_tokenizer(cls, tokenizer: Any, *, vocab_size: int = 0) -> TokenClasses:
        """Classes by the text of each token.

        Args:
            tokenizer: A transformers tokenizer, or a processor that holds one.
            vocab_size: Rows of the vocabulary projection, where it has more than the tokenizer has tokens;
                the ids beyond are "other".
        """
        tokenizer = getattr(tokenizer, "tokenizer", tokenizer)  # absent in a tokenizer
        added = set(tokenizer.get_added_vocab().values()) | set(tokenizer.all_special_ids)
        size = max(len(tokenizer), *(token + 1 for token in added)) if added else len(tokenizer)
        texts = tokenizer.convert_ids_to_tokens(range(size))
        table = torch.full((max(size, vocab_size),), OTHER, dtype=torch.int64)
        table[:size] = torch.tensor([class_of_text(text) for text in texts], dtype=torch.int64)
        if added:
            table[sorted(added)] = TEMPLATE
        ends = [token for token, text in enumerate(texts) if text in END_TOKENS]
        eos = tokenizer.eos_token_id
        table[[*ends, *(eos if isinstance(eos, (list, tuple)) else [] if eos is None else [eos])]] = EOS
        return cls(table)

    def classify(self, labels: Tensor, input_ids: Tensor | None = None, placeholder_ids: Sequence[int] = ()) -> Tensor:
        """Index into `CLASSES` of each label, without waiting for the device.

        `image_adjacent` are "other" labels among the first 8 kept ones after an image or video placeholder, up to
        the first kept end of turn: the beginning of what is said about an image, wherever the prompt stands.
        Only positions count, so that packed neighbours do not mix.

        Args:
            labels: Token ids aligned with the inputs, int64, shape (..., T); negative where ignored ("other").
            input_ids: The inputs, same shape; None where there are no images.
            placeholder_ids: Ids that stand for an image's or a video's features in `input_ids`.

        Returns:
            int64, the shape and device of `labels`.
        """
        table = self._table(labels.device)
        is_known = (labels >= 0) & (labels < table.numel())
        classes = torch.where(is_known, table[labels.clamp(0, table.numel() - 1)], OTHER)
        if input_ids is None or not placeholder_ids:
            return classes
        is_placeholder = torch.zeros_like(is_known)
        for token in placeholder_ids:
            is_placeholder |= input_ids == token
        kept = labels >= 0
        last_image, last_end = _last_where(is_placeholder), _last_where(kept & (classes == EOS))
        num_kept = kept.long().cumsum(-1)
        since_image = num_kept - num_kept.gather(-1, last_image.clamp(min=0))
        is_adjacent = kept & (last_image > last_end) & (since_image <= NUM_IMAGE_ADJACENT)
        return torch.where(is_adjacent & (classes == OTHER), IMAGE_ADJACENT, classes)

    def _table(self, device: torch.device) -> Tensor:
        if device not in self._on_device:
            self._on_device[device] = self.table.to(device)
        return self._on_device[device]


def class_of_text(text: str | bytes | None) -> int:
    """Class of a vocabulary entry that is neither special nor added, as the tokenizer writes it."""
    if text is None:  # a hole in the numbering
        return OTHER
    if isinstance(text, bytes):
        text = text.decode("utf-8", errors="replace")
    if byte := _BYTE.fullmatch(text):
        text = chr(int(byte[1], 16))
    word = text.strip(_SPACES)
    if word.isascii() and word.isdigit():
        return DIGITS
    bare = word.strip(_SPACES + _LINE_MARKS)
    is_layout = not bare and (len(text) > 1 or word != "")  # a newline, a tab, two spaces or more
    return CODE if is_layout or not CODE_CHARACTERS.isdisjoint(bare) else OTHER


def _last_where(mask: Tensor) -> Tensor:
    """Position of the last True at or before each position, -1 before the first; shape (..., T)."""
    positions = torch.arange(mask.shape[-1], device=mask.device).expand_as(mask)
    return torch.where(mask, positions, -1).cummax(-1).values
