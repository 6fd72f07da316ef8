"""Divergence of a chunk of logits from a reference's, with its gradient in place of the reference."""

from __future__ import annotations

import torch
from torch import Tensor

from dft_plugin.core.row_softmax import row_blocks, transform_


def kl_rows_(
    logits: Tensor, ref_logits: Tensor, *, dtype: torch.dtype, logit_scale: float, logit_softcap: float | None
) -> Tensor:
    """KL(q || p) of each row, q = softmax of the reference's logits, p of the model's, in nats, shape (N,).

    Args:
        logits: The model's, shape (N, V); left as they are.
        ref_logits: The reference's, shape (N, V); overwritten with d KL / d (logit_scale * logits), that is p - q
            (times the slope of the softcap).
        dtype: Dtype of the arithmetic.
        logit_scale: Factor of both logits.
        logit_softcap: Bound c of c * tanh(x / c), applied after the factor to both.
    """
    kl = logits.new_empty(logits.shape[0], dtype=dtype)
    for block in row_blocks(logits):
        model = transform_(logits[block].to(dtype, copy=True), logit_scale=logit_scale, logit_softcap=logit_softcap)
        slope = None if logit_softcap is None else 1 - (model / logit_softcap).square()
        log_p = model.log_softmax(1)
        reference = transform_(
            ref_logits[block].to(dtype, copy=True), logit_scale=logit_scale, logit_softcap=logit_softcap
        )
        log_q = reference.log_softmax(1)
        q = log_q.exp()
        # 0 * inf for tokens that a logit of -inf masks in both
        kl[block] = torch.where(q > 0, q * (log_q - log_p), 0.0).sum(1)
        grad = log_p.exp_().sub_(q)
        ref_logits[block] = grad if slope is None else grad.mul_(slope)
    return kl
