"""Images of a row through the model's own processor, checked against the text's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from dft_plugin.errors import ConfigError, InputError


class ImageInputs(NamedTuple):
    """A text with images as the model takes it.

    Attributes:
        input_ids: With every image's placeholder repeated as often as it has features.
        counterpart: For each of them the index of the token it comes from.
        tensors: The processor's other outputs; those of shape (1, T) go with the tokens.
    """

    input_ids: list[int]
    counterpart: list[int]
    tensors: dict[str, Tensor]


def image_token_of(processor: Any) -> tuple[str, int]:
    """The placeholder's text and id.

    Raises:
        ConfigError: the processor does not say.
    """
    token = getattr(processor, "image_token", None)  # absent in processors of another style
    if not isinstance(token, str):
        raise ConfigError(
            f"{type(processor).__name__} does not name its image token; image models in the style of Qwen2.5-VL are "
            "accepted."
        )
    return token, int(processor.tokenizer.convert_tokens_to_ids(token))


def place_images(processor: Any, text: str, token_ids: Sequence[int], paths: Sequence[Path]) -> ImageInputs:
    """The processor's inputs for `text`, whose tokens without images are `token_ids`.

    Raises:
        InputError: an unreadable image, a template that does not write each image once, or a text that the
            processor tokenizes otherwise.
    """
    token, token_id = image_token_of(processor)
    if text.count(token) != len(paths):
        raise InputError(f"the chat template writes {token!r} {text.count(token)} times for {len(paths)} images.")
    encoded = dict(processor(text=[text], images=[_open(path) for path in paths], return_tensors="pt"))
    input_ids = encoded.pop("input_ids")[0].tolist()
    counterpart = _align(input_ids, token_ids, token_id)
    if counterpart is None:
        raise InputError(
            "the processor tokenizes the whole text otherwise than its parts, so which tokens are trained is not "
            "certain. Text that starts with spaces or newlines is the usual cause; strip it."
        )
    return ImageInputs(input_ids, counterpart, {key: value for key, value in encoded.items() if value is not None})


def _align(expanded: Sequence[int], token_ids: Sequence[int], token_id: int) -> list[int] | None:
    """For each expanded token the index of its origin; None where they do not match."""
    counterpart: list[int] = []
    position = 0
    for index, token in enumerate(token_ids):
        first = position
        if token == token_id and index and token_ids[index - 1] == token_id:
            return None  # where one image ends and the next begins cannot be told
        while position < len(expanded) and expanded[position] == token:
            position += 1
            if token != token_id:
                break
        if position == first:
            return None
        counterpart += [index] * (position - first)
    return counterpart if position == len(expanded) else None


def _open(path: Path) -> Any:
    from PIL import Image

    try:
        return Image.open(path).convert("RGB")
    except OSError as error:
        raise InputError(f"image {path} cannot be read: {error}.") from None
