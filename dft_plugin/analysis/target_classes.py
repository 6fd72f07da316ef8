"""Sums over the targets of rows by token class, and the means they give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dft_plugin.analysis.token_probs import HIGH, LOW
from dft_plugin.core.token_classes import CLASSES, EOS, TokenClasses

TARGET_CLASSES = (*CLASSES, "after_end")
"""The token classes, and what a chat template writes after the end of a turn (a newline, mostly)."""
FORMAT_CLASSES = ("eos", "template", "after_end")
"""Classes that say how a response is wrapped, not what it says."""
SUMS = ("num_tokens", "sum_p", "sum_p_squared", "sum_nll", "num_low", "num_high")
"""Columns of a sum; low is p < 0.05, high is p > 0.95."""


def target_classes(token_classes: TokenClasses, input_ids: Sequence[int], labels: Sequence[int], images: Any) -> Tensor:
    """Index into `TARGET_CLASSES` of each label.

    Args:
        token_classes: Of the tokenizer.
        input_ids: The tokens.
        labels: The same, or -100.
        images: Ids that stand for images in `input_ids`.
    """
    classes = token_classes.classify(torch.tensor(labels), torch.tensor(input_ids), tuple(images))
    has_ended = False
    for position, label in enumerate(labels):
        if label < 0:
            has_ended = False
        elif has_ended:
            classes[position] = len(CLASSES)
        else:
            has_ended = bool(classes[position] == EOS)
    return classes


def sums_by_class(nll: Tensor, classes: Tensor) -> Tensor:
    """The columns `SUMS` of each class.

    Args:
        nll: -log p of targets in nats, float64, shape (N,).
        classes: Index into `TARGET_CLASSES` of each, shape (N,).

    Returns:
        float64, shape (classes, columns).
    """
    p = (-nll).exp()
    columns = torch.stack([torch.ones_like(p), p, p * p, nll, (p < LOW).double(), (p > HIGH).double()], dim=1)
    return torch.zeros(len(TARGET_CLASSES), len(SUMS), dtype=torch.float64).index_add_(0, classes, columns)


def means(columns: Sequence[float]) -> dict[str, Any]:
    """Readable means of one row of sums.

    Returns:
        `effective_tokens` is (sum p)^2 / (N sum p^2), the share of tokens that would carry DFT's gradient (Kish's
        effective sample size over N); 1 for plain training.
    """
    num_tokens, sum_p, sum_p_squared, sum_nll, num_low, num_high = (float(value) for value in columns)
    if not num_tokens:
        return {"num_tokens": 0}
    return {
        "num_tokens": int(num_tokens),
        "mean_p": sum_p / num_tokens,
        "nll": sum_nll / num_tokens,
        "share_p_below_0.05": num_low / num_tokens,
        "share_p_above_0.95": num_high / num_tokens,
        "effective_tokens": sum_p**2 / (num_tokens * sum_p_squared) if sum_p_squared else 0.0,
    }
