"""The tokens of the option `full_weight_tokens`, as ids of the run's tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dft_plugin.errors import OptionError


def full_weight_ids(tokens: Sequence[str | int], tokenizer: Any, model: Any) -> tuple[int, ...]:
    """Ids of the option `full_weight_tokens`.

    Args:
        tokens: Texts, ids, or "eos".
        tokenizer: The run's transformers tokenizer.
        model: The run's model; with the tokenizer it says what "eos" stands for.

    Raises:
        OptionError: a text that is not one token, or an id outside the vocabulary.
    """
    ids: list[int] = []
    for token in tokens:
        if token == "eos":
            eos_ids = _eos_ids(tokenizer, model)
            if not eos_ids:
                raise OptionError("full_weight_tokens: 'eos', but the tokenizer has no end-of-sequence token.")
            ids += eos_ids
        elif isinstance(token, str):
            found = tokenizer.encode(token, add_special_tokens=False)
            if len(found) != 1:
                raise OptionError(
                    f"full_weight_tokens: {token!r} is {len(found)} tokens of this tokenizer; one is accepted."
                )
            ids += found
        elif 0 <= token < len(tokenizer):
            ids.append(token)
        else:
            raise OptionError(f"full_weight_tokens: id {token} is outside the vocabulary of {len(tokenizer)}.")
    return tuple(dict.fromkeys(ids))


def _eos_ids(tokenizer: Any, model: Any) -> list[int]:
    """Return the ids that end a turn or a text, without repeats: the tokenizer's and the model's own."""
    config = getattr(model, "generation_config", None)  # absent on models that do not generate
    found = getattr(config, "eos_token_id", None)
    ids = [tokenizer.eos_token_id, *(found if isinstance(found, list) else [found])]
    return [token for token in dict.fromkeys(ids) if token is not None]
