"""Softmax statistics and gradient of a chunk of logits, in place: the portable form of `row_kernel`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

# Logits worked on at a time: on a CPU few enough to stay in cache between passes, elsewhere enough to fill it.
_CPU_BLOCK_LOGITS = 1 << 20
_BLOCK_LOGITS = 1 << 26
_LOG2_E = math.log2(math.e)
# exp() of it is 0 in float32 and float64, and unlike -inf it can be multiplied by that 0.
_LOWEST_LOGIT = -1e4


class RowStatistics(NamedTuple):
    """What an objective may need of each row.

    Attributes:
        nll: -log p of the target, float32 (float64 for float64 logits), shape (N,).
        is_top: Whether no other token was likelier than the target, bool, shape (N,).
        entropy: Entropy of the row's distribution in nats, same shape and dtype; None unless asked for.
    """

    nll: Tensor
    is_top: Tensor
    entropy: Tensor | None


def softmax_rows_(
    logits: Tensor,
    targets: Tensor,
    target_logits: Tensor,
    *,
    logit_scale: float,
    logit_softcap: float | None,
    with_grad: bool,
    with_entropy: bool,
) -> RowStatistics:
    """Statistics of softmax(softcap(logit_scale * logits)); `logits` becomes the gradient of each row's nll.

    Low-precision rows are lifted to float32, a block at a time, and the one-hot is subtracted there: after
    rounding, a token of p = .999 would have gradient 0 in bfloat16 instead of -.001.

    Args:
        logits: Shape (N, V), float64, float32, bfloat16 or float16; overwritten with d nll / d (logit_scale *
            logits), or with anything when `with_grad` is False.
        targets: Token ids, int64, shape (N,).
        target_logits: The targets' logits in the precision of the statistics, shape (N,); they replace the
            rounded ones of `logits`.
        logit_scale: Factor of the logits.
        logit_softcap: Bound c of c * tanh(x / c), applied after the factor.
        with_grad: Whether `logits` must become the gradient.
        with_entropy: Whether to compute the entropies.
    """
    dtype = target_logits.dtype
    is_low_precision = logits.dtype != dtype
    blocks = list(row_blocks(logits))
    size = max(block.stop - block.start for block in blocks)
    scratch = logits.new_empty((size if is_low_precision else 0, logits.shape[1]), dtype=dtype)
    nll = torch.empty_like(target_logits)
    is_top = torch.empty_like(targets, dtype=torch.bool)
    entropy = torch.empty_like(target_logits) if with_entropy else None
    for block in blocks:
        target = targets[block, None]
        x = logits[block]
        if is_low_precision:
            x = scratch[: x.shape[0]].copy_(x)
        x.scatter_(1, target, target_logits[block, None])
        if logit_scale != 1:
            x.mul_(logit_scale)
        slope = None
        if logit_softcap is not None:
            x.div_(logit_softcap).tanh_()
            slope = 1 - x * x if with_grad else None
            x.mul_(logit_softcap)
        x.sub_(x.amax(1, keepdim=True))
        shifted = x.clamp(min=_LOWEST_LOGIT) if with_entropy else None
        target_shifted = x.gather(1, target)
        is_top[block] = (target_shifted >= 0).squeeze(1)
        # exp2 is four times as fast as exp on a CPU; sum is ten times as exact as log_softmax, which adds serially
        total = x.mul_(_LOG2_E).exp2_().sum(1, keepdim=True)
        nll[block] = (total.log() - target_shifted).squeeze(1)
        if entropy is not None and shifted is not None:
            entropy[block] = (total.log() - shifted.mul_(x).sum(1, keepdim=True) / total).squeeze(1)
        if with_grad:
            x.mul_(1 / total)
            x.scatter_add_(1, target, torch.full_like(total, -1))
            if slope is not None:
                x.mul_(slope)
            if is_low_precision:
                logits[block] = x
    return RowStatistics(nll, is_top, entropy)


def row_blocks(logits: Tensor) -> Iterator[slice]:
    """Consecutive blocks of rows, each small enough for a copy in another dtype."""
    num_rows, vocab_size = logits.shape
    size = max(1, (_CPU_BLOCK_LOGITS if logits.device.type == "cpu" else _BLOCK_LOGITS) // vocab_size)
    return (slice(start, min(start + size, num_rows)) for start in range(0, num_rows, size))
