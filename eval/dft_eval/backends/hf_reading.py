"""The likeliest tokens at the places of given continuations, with one pass for all that share a text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dft_eval.backends.base import Request
from dft_eval.backends.tokens import check_lengths, encode_continuation
from dft_eval.records.schema import Answer


@dataclass(frozen=True)
class Pass:
    """A text to be run through the model, and the continuations that are read in it.

    Attributes:
        ids: Its tokens.
        readings: Each with the place behind its last token and the number of its tokens.
    """

    ids: list[int]
    readings: list[tuple[Request, int, int]] = field(default_factory=list)


def share_passes(encoded: Iterable[tuple[Request, list[int], int]]) -> list[Pass]:
    """One pass for all texts that one of them begins with: a model sees no later token at an earlier place.

    Args:
        encoded: Request, tokens of prompt and continuation, number of the continuation's.

    Returns:
        The longest first.
    """
    passes: list[Pass] = []
    # in this order a text comes right behind one that begins with it, if there is any
    for request, ids, num_given in sorted(encoded, key=lambda entry: entry[1], reverse=True):
        if not passes or passes[-1].ids[: len(ids)] != ids:
            passes.append(Pass(ids))
        passes[-1].readings.append((request, len(ids), num_given))
    return sorted(passes, key=lambda each: len(each.ids), reverse=True)


def read_continuations(
    model: Any, tokenizer: Any, requests: Sequence[Request], *, batch_size: int, device: str, limit: int | None
) -> Iterator[list[Answer]]:
    """Yield the answers of a batch of passes at a time.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        requests: With given continuations.
        batch_size: Texts at once.
        device: Of the model.
        limit: Most tokens the model reads; None where it states none.
    """
    encoded = [(request, *encode_continuation(request, tokenizer)) for request in requests]
    check_lengths([(request, len(ids)) for request, ids, _ in encoded], limit)
    passes = share_passes(encoded)
    for start in range(0, len(passes), batch_size):
        batch = passes[start : start + batch_size]
        rows = _likeliest_tokens(model, [each.ids for each in batch], device)
        yield [
            _answer(tokenizer, request, row[end - num_given : end], each.ids[end - num_given : end])
            for each, row in zip(batch, rows, strict=True)
            for request, end, num_given in each.readings
        ]


def _likeliest_tokens(model: Any, texts: Sequence[list[int]], device: str) -> list[list[int]]:
    """For each place of each text what the model holds likeliest there, given the tokens before it.

    Right-padded: under causal attention nothing looks at what comes behind.
    """
    import torch

    width = max(map(len, texts))
    input_ids, attention_mask = torch.zeros(2, len(texts), width, dtype=torch.long)
    for row, ids in enumerate(texts):
        input_ids[row, : len(ids)] = torch.tensor(ids)
        attention_mask[row, : len(ids)] = 1
    with torch.inference_mode():
        logits = model(input_ids=input_ids.to(device), attention_mask=attention_mask.to(device), use_cache=False).logits
    return [[-1, *row[:-1]] for row in logits.argmax(dim=-1).tolist()]  # nothing is before the first token


def _answer(tokenizer: Any, request: Request, likeliest: list[int], given: list[int]) -> Answer:
    if likeliest == given:
        return request.answer(request.sample.continuation, "stop")
    text = tokenizer.decode(likeliest, clean_up_tokenization_spaces=False)
    # other tokens of the same text: not what was asked
    return request.answer("" if text == request.sample.continuation else text, "stop")
