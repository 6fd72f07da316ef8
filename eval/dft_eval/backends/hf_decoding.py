"""Choosing tokens row by row, so that what else is in a batch changes nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria

from dft_eval.backends.base import SamplingParams


class TokenChooser(LogitsProcessor):
    """Repetition penalty, temperature, top-k, top-p, then a draw with the row's own random numbers.

    Transformers' own penalty counts padding as text, and its draws depend on the other rows.

    Args:
        sampling: What to apply.
        attention_mask: (B, T), 0 where a prompt is padded.
        generators: One for each row.
    """

    def __init__(self, sampling: SamplingParams, attention_mask: Tensor, generators: Sequence[random.Random]) -> None:
        self._sampling, self._attention_mask, self._generators = sampling, attention_mask, generators

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Logits (B, V) of which the arg max is the choice."""
        logits = self._penalise(input_ids, scores.float())
        if self._sampling.temperature == 0:
            return logits
        probs = self._keep_probable(torch.softmax(logits / self._sampling.temperature, dim=-1))
        cumulated = probs.double().cumsum(dim=-1)
        draws = torch.tensor([[generator.random()] for generator in self._generators], dtype=torch.float64)
        chosen = torch.searchsorted(cumulated, draws.to(cumulated.device) * cumulated[:, -1:], right=True)
        return torch.full_like(logits, -torch.inf).scatter_(1, chosen, 0.0)

    def _penalise(self, input_ids: Tensor, logits: Tensor) -> Tensor:
        penalty = self._sampling.repetition_penalty
        if penalty == 1:
            return logits
        num_new = input_ids.shape[1] - self._attention_mask.shape[1]
        is_text = torch.nn.functional.pad(self._attention_mask, (0, num_new), value=1)
        counts = torch.zeros_like(logits).scatter_add_(1, input_ids, is_text.to(logits.dtype))
        penalised = torch.where(logits > 0, logits / penalty, logits * penalty)
        return torch.where(counts > 0, penalised, logits)

    def _keep_probable(self, probs: Tensor) -> Tensor:
        if self._sampling.top_k > 0:
            smallest = probs.topk(min(self._sampling.top_k, probs.shape[-1])).values[:, -1:]
            probs = torch.where(probs < smallest, 0.0, probs)
        if self._sampling.top_p < 1:
            ordered, order = probs.sort(dim=-1, descending=True)
            share = ordered / ordered.sum(dim=-1, keepdim=True)
            # a token stays where those before it do not reach top_p yet, so that the first always stays
            is_kept = share.cumsum(dim=-1) - share < self._sampling.top_p
            probs = torch.zeros_like(probs).scatter_(1, order, torch.where(is_kept, ordered, 0.0))
        return probs


class StopTexts(StoppingCriteria):
    """Ends a row once its new text holds one of its stop texts.

    Args:
        tokenizer: Makes text of the tokens.
        stops: The stop texts of each row.
        width: Tokens of the padded prompt.

    Attributes:
        has_fired: Whether each row was ended.
    """

    def __init__(self, tokenizer: Any, stops: Sequence[Sequence[str]], width: int) -> None:
        self._tokenizer, self._stops, self._width = tokenizer, stops, width
        # a token is a byte or more, so that a stop text that just ended lies within so many of them
        self._num_tail = [max((len(stop.encode()) for stop in row), default=0) + 8 for row in stops]
        self.has_fired = [False] * len(stops)

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """Return for each row (B,) whether it is done."""
        for row, stops in enumerate(self._stops):
            if stops and not self.has_fired[row]:
                tail = input_ids[row, max(self._width, input_ids.shape[1] - self._num_tail[row]) :]
                text = self._tokenizer.decode(tail, skip_special_tokens=True, clean_up_tokenization_spaces=False)
                self.has_fired[row] = any(stop in text for stop in stops)
        return torch.tensor(self.has_fired, device=input_ids.device)


class TokenLimits(StoppingCriteria):
    """Ends each row at its own number of new tokens.

    Args:
        limits: Of each row.
        width: Tokens of the padded prompt.
    """

    def __init__(self, limits: Sequence[int], width: int) -> None:
        self._limits, self._width = torch.tensor(limits), width

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """Return for each row if it is done."""
        return (self._limits <= input_ids.shape[1] - self._width).to(input_ids.device)
