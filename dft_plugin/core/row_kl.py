"""Divergence of a chunk of logits from a reference's, with its gradient in place of the reference."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dft_plugin.core.row_softmax import LogitMap, row_blocks


class Divergence(NamedTuple):
    """KL(q || p) of each row in nats, (N,), and what rounding added to the sum of its gradient, (N,), or None."""

    kl: Tensor
    rounding: Tensor | None


def kl_rows_(
    logits: Tensor,
    ref_logits: Tensor,
    pivots: Tensor | None,
    ref_pivots: Tensor | None,
    *,
    dtype: torch.dtype,
    logit_map: LogitMap,
) -> Divergence:
    """KL(q || p) of each row, q = softmax of the reference's logits, p of the model's.

    Args:
        logits: The model's, shape (N, V); left as they are.
        ref_logits: The reference's, shape (N, V); overwritten with d KL / d (logit_scale * logits), that is p - q
            (times the slope of the softcap).
        pivots: What was subtracted from each row of `logits`, shape (N,), or None.
        ref_pivots: What was subtracted from each row of `ref_logits`, likewise.
        dtype: Dtype of the arithmetic.
        logit_map: What makes both the logits of a model.
    """
    kl = logits.new_empty(logits.shape[0], dtype=dtype)
    rounding = None if logits.dtype == dtype else torch.empty_like(kl)
    softcap = logit_map.logit_softcap
    for block in row_blocks(logits):
        model = logit_map.apply_(logits[block].to(dtype, copy=True), None if pivots is None else pivots[block])
        slope = None if softcap is None else 1 - (model / softcap).square()
        log_p = model.log_softmax(1)
        reference = logit_map.apply_(
            ref_logits[block].to(dtype, copy=True), None if ref_pivots is None else ref_pivots[block]
        )
        log_q = reference.log_softmax(1)
        q = log_q.exp()
        # 0 * inf for tokens that a logit of -inf masks in both
        kl[block] = torch.where(q > 0, q * (log_q - log_p), 0.0).sum(1)
        grad = log_p.exp_().sub_(q)
        if slope is not None:
            grad.mul_(slope)
        ref_logits[block] = grad
        if rounding is not None:
            rounding[block] = ref_logits[block].sum(1, dtype=dtype) - grad.sum(1)
    return Divergence(kl, rounding)


def mix_rows_(
    grad: Tensor, other: Tensor, factor: Tensor, other_factor: Tensor, roundings: tuple[Tensor | None, Tensor | None]
) -> Tensor | None:
    """Replace each row of `grad` by factor * grad + other_factor * other, shape (N, V), added before it is rounded.

    Args:
        grad: Shape (N, V); overwritten.
        other: Shape (N, V).
        factor: Of each row of `grad`, shape (N,).
        other_factor: Of each row of `other`, shape (N,).
        roundings: What rounding added to the sums of both, shapes (N,), or None twice.

    Returns:
        What rounding added to the sum of each new row, shape (N,), or None.
    """
    of_grad, of_other = roundings
    rounding = None
    if of_grad is not None and of_other is not None:
        rounding = factor * of_grad + other_factor * of_other
    for block in row_blocks(grad):
        x = grad[block].to(factor.dtype, copy=True).mul_(factor[block, None])
        x.addcmul_(other[block].to(factor.dtype), other_factor[block, None])
        grad[block] = x
        if rounding is not None:
            rounding[block] += grad[block].sum(1, dtype=factor.dtype) - x.sum(1)
    return rounding
