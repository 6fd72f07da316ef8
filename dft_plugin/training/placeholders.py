"""Ids that stand for images, video or audio in a row of tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dft_plugin.errors import InputError

_SETTINGS = ("image_token_id", "video_token_id", "audio_token_id")  # absent or None in a text model


def placeholder_ids(config: Any) -> tuple[int, ...]:
    """Return the placeholder ids that a model's `config` names."""
    return tuple(value for name in _SETTINGS if (value := getattr(config, name, None)) is not None)


def refuse_placeholders(labels: Tensor, ids: tuple[int, ...]) -> None:
    """Stop where a label is a placeholder: it stands for features, not for words, and has no token loss.

    Args:
        labels: Plain token ids, any shape.
        ids: See `placeholder_ids`.

    Raises:
        InputError: a label is one of `ids`.
    """
    if not ids:
        return
    is_found = torch.stack([(labels == token).any() for token in ids]).tolist()  # one transfer
    found = [token for token, is_there in zip(ids, is_found, strict=True) if is_there]
    if found:
        raise InputError(
            f"labels contain the placeholder tokens {found} of images, video or audio, which would be trained as "
            "words. Set train_on_prompt: false in LLaMA-Factory, and remove placeholder text from the answers."
        )
