"""Softmax statistics and gradient of a chunk of logits, in place: the portable form of `row_kernel`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from dft_plugin.core.token_objectives import TOP_K

# Logits worked on at a time: on a CPU few enough to stay in cache between passes, elsewhere enough to fill it.
_CPU_BLOCK_LOGITS = 1 << 20
_BLOCK_LOGITS = 1 << 26
_LOG2_E = math.log2(math.e)
# exp() of it is 0 in float32 and float64, and unlike -inf it can be multiplied by that 0.
_LOWEST_LOGIT = -1e4
OPTIONAL_STATISTICS = ("entropy", "top_entropy", "concentration")
"""Statistics of a row that cost extra; the same words as in `TokenInputs`."""


class RowStatistics(NamedTuple):
    """Statistics of each row that an objective may need.

    Attributes:
        nll: -log p of the target, float32 (float64 for float64 logits), shape (N,).
        is_top: Whether no other token was likelier than the target, bool, shape (N,).
        entropy: Entropy of the row's distribution in nats, same shape and dtype; None unless asked for.
        top_entropy: Entropy of its 20 likeliest tokens alone, renormalised, likewise.
        concentration: Sum of squared probabilities, likewise.
        rounding: What rounding to the dtype of the logits added to the sum of the row's gradient, likewise; None
            where nothing was rounded.
    """

    nll: Tensor
    is_top: Tensor
    entropy: Tensor | None = None
    top_entropy: Tensor | None = None
    concentration: Tensor | None = None
    rounding: Tensor | None = None

    @classmethod
    def empty(cls, like: Tensor, wants: frozenset[str]) -> RowStatistics:
        """Uninitialised statistics of the shape and dtype of `like`; the optional ones that `wants` names."""
        optional = {name: torch.empty_like(like) for name in OPTIONAL_STATISTICS if name in wants}
        return cls(torch.empty_like(like), torch.empty_like(like, dtype=torch.bool), **optional)

    def write(self, rows: slice, other: RowStatistics) -> None:
        """Copy `other`, the statistics of `rows`, into place."""
        for mine, theirs in zip(self, other, strict=True):
            if mine is not None and theirs is not None:
                mine[rows] = theirs


class LogitMap(NamedTuple):
    """From a matrix product to the logits of a model: softcap(logit_scale * (product + pivot + bias)).

    Attributes:
        logit_scale: Factor of the logits.
        logit_softcap: Bound c of c * tanh(x / c), applied after the factor; None for none.
        bias: Added to every row in the precision of the statistics, shape (V,); None where it is in the product.
    """

    logit_scale: float = 1.0
    logit_softcap: float | None = None
    bias: Tensor | None = None

    def apply_(self, product: Tensor, pivots: Tensor | None) -> Tensor:
        """The logits of rows, in place of `product`, shape (c, V), up to a constant of each row without a softcap.

        Args:
            product: In the precision of the statistics.
            pivots: What was subtracted from each row, shape (c,), or None.
        """
        if self.bias is not None:
            product.add_(self.bias)
        self.transform_(product, pivots)
        return product

    def transform_(self, product: Tensor, pivots: Tensor | None, *, with_slope: bool = False) -> Tensor | None:
        """As `apply_`, for rows that have their bias; returns the slope of the softcap where one is asked for."""
        if self.logit_softcap is not None and pivots is not None:
            product.add_(pivots[:, None])  # a softmax does not see a constant, tanh does
        if self.logit_scale != 1:
            product.mul_(self.logit_scale)
        if self.logit_softcap is None:
            return None
        product.div_(self.logit_softcap).tanh_()
        slope = 1 - product * product if with_slope else None
        product.mul_(self.logit_softcap)
        return slope


def row_scratch(logits: Tensor, dtype: torch.dtype) -> Tensor:
    """Room for the rows that `softmax_rows_` lifts to `dtype` at a time.

    One for all chunks of a call: made for each, it leaves holes in the heap, and a third of memory on top of it.
    """
    num_rows, vocab_size = logits.shape
    size = min(_block_rows(logits), num_rows) if logits.dtype != dtype else 0
    return logits.new_empty((size, vocab_size), dtype=dtype)


def softmax_rows_(
    logits: Tensor,
    targets: Tensor,
    target_logits: Tensor,
    pivots: Tensor | None,
    *,
    logit_map: LogitMap,
    with_grad: bool,
    wants: frozenset[str],
    scratch: Tensor | None = None,
) -> RowStatistics:
    """Statistics of softmax(logit_map(logits)); `logits` becomes the gradient of each row's nll.

    Low-precision rows are lifted to float32, a block at a time, and the one-hot is subtracted there: after
    rounding, a token of p = .999 would have gradient 0 in bfloat16 instead of -.001.

    Args:
        logits: Shape (N, V), float64, float32, bfloat16 or float16; overwritten with d nll / d (logit_scale *
            logits), or with anything when `with_grad` is False.
        targets: Token ids, int64, shape (N,).
        target_logits: The targets' logits in the precision of the statistics, less `pivots` and with their bias,
            shape (N,); they replace the rounded ones of `logits`.
        pivots: What was subtracted from each row of `logits`, in the precision of the statistics, shape (N,), or None.
        logit_map: What makes them the model's logits.
        with_grad: Whether `logits` must become the gradient.
        wants: Which of `OPTIONAL_STATISTICS` to compute.
        scratch: What `row_scratch` made for these or more rows; None makes it here.
    """
    dtype = target_logits.dtype
    is_low_precision = logits.dtype != dtype
    scratch = row_scratch(logits, dtype) if scratch is None else scratch
    statistics = RowStatistics.empty(target_logits, wants)
    nll, is_top, entropy, top, concentration, _ = statistics
    rounding = torch.empty_like(nll) if is_low_precision and with_grad else None
    for block in row_blocks(logits):
        target = targets[block, None]
        x = logits[block]
        if is_low_precision:
            x = scratch[: x.shape[0]].copy_(x)
        if logit_map.bias is not None:
            x.add_(logit_map.bias)
        x.scatter_(1, target, target_logits[block, None])
        slope = logit_map.transform_(x, None if pivots is None else pivots[block], with_slope=with_grad)
        if top is not None:
            top[block] = top_entropy(x)
        x.sub_(x.amax(1, keepdim=True))
        shifted = x.clamp(min=_LOWEST_LOGIT) if entropy is not None else None
        target_shifted = x.gather(1, target)
        is_top[block] = (target_shifted >= 0).squeeze(1)
        # exp2 is four times as fast as exp on a CPU; sum is ten times as exact as log_softmax, which adds serially
        total = x.mul_(_LOG2_E).exp2_().sum(1, keepdim=True)
        nll[block] = (total.log() - target_shifted).squeeze(1)
        if entropy is not None and shifted is not None:
            entropy[block] = (total.log() - shifted.mul_(x).sum(1, keepdim=True) / total).squeeze(1)
        if concentration is not None:
            concentration[block] = (x.square().sum(1, keepdim=True) / total.square()).squeeze(1)
        if with_grad:
            x.mul_(1 / total)
            x.scatter_add_(1, target, torch.full_like(total, -1))
            if slope is not None:
                x.mul_(slope)
            if rounding is not None:
                logits[block] = x
                # the exact gradient of a row adds up to zero unless a softcap bends it
                exact = 0.0 if slope is None else x.sum(1)
                rounding[block] = x.copy_(logits[block]).sum(1) - exact
    return statistics._replace(rounding=rounding)


def top_entropy(logits: Tensor) -> Tensor:
    """Entropy of the 20 likeliest tokens of each row alone, renormalised, shape (N,), in nats; of all if V < 20."""
    log_probs = logits.topk(min(TOP_K, logits.shape[1]), dim=1).values.log_softmax(1)
    entropy: Tensor = torch.special.entr(log_probs.exp()).sum(1)
    return entropy


def row_blocks(logits: Tensor) -> Iterator[slice]:
    """Consecutive blocks of rows, each small enough for a copy in another dtype."""
    num_rows, size = logits.shape[0], _block_rows(logits)
    return (slice(start, min(start + size, num_rows)) for start in range(0, num_rows, size))


def _block_rows(logits: Tensor) -> int:
    return max(1, (_CPU_BLOCK_LOGITS if logits.device.type == "cpu" else _BLOCK_LOGITS) // logits.shape[1])
