"""Triton form of `row_softmax`: one program per row reads the logits twice and writes the gradient once."""

from __future__ import annotations

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from dft_plugin.core.row_softmax import RowStatistics

_BLOCK = 8192
_NUM_WARPS = 16


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
    """As `row_softmax.softmax_rows_`, for contiguous logits of up to 32 bits; all arithmetic in float32."""
    num_rows, vocab_size = logits.shape
    nll = torch.empty_like(target_logits)
    is_top = torch.empty_like(targets, dtype=torch.bool)
    entropy = torch.empty_like(target_logits) if with_entropy else None
    _softmax_rows_kernel[(num_rows,)](
        logits,
        targets,
        target_logits,
        nll,
        is_top,
        nll if entropy is None else entropy,
        vocab_size,
        float(logit_scale),
        float(logit_softcap or 1),
        has_softcap=logit_softcap is not None,
        with_grad=with_grad,
        with_entropy=with_entropy,
        block_size=_BLOCK,
        num_warps=_NUM_WARPS,
    )
    return RowStatistics(nll, is_top, entropy)


@triton.jit  # type: ignore[untyped-decorator]
def _softmax_rows_kernel(
    logits_ptr: tl.tensor,
    targets_ptr: tl.tensor,
    target_logits_ptr: tl.tensor,
    nll_ptr: tl.tensor,
    is_top_ptr: tl.tensor,
    entropy_ptr: tl.tensor,
    vocab_size: tl.tensor,
    logit_scale: tl.tensor,
    logit_softcap: tl.tensor,
    has_softcap: tl.constexpr,
    with_grad: tl.constexpr,
    with_entropy: tl.constexpr,
    block_size: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)  # rows * vocab_size passes 2^31
    logits_ptr += row * vocab_size
    target = tl.load(targets_ptr + row)
    target_logit = _transform(tl.load(target_logits_ptr + row), logit_scale, logit_softcap, has_softcap)

    top = target_logit  # a finite start: -inf - -inf would be NaN in a block that is masked throughout
    total = 0.0
    moment = 0.0
    for start in range(0, vocab_size, block_size):
        columns = start + tl.arange(0, block_size)
        x = tl.load(logits_ptr + columns, mask=columns < vocab_size, other=float("-inf")).to(tl.float32)
        x = _transform(x, logit_scale, logit_softcap, has_softcap)
        x = tl.where(columns == target, target_logit, x)
        x = tl.where(columns < vocab_size, x, float("-inf"))  # the softcap lifts -inf to -logit_softcap
        new_top = tl.maximum(top, tl.max(x, axis=0))
        decay = tl.exp(top - new_top)
        probs = tl.exp(x - new_top)
        total = total * decay + tl.sum(probs, axis=0)
        if with_entropy:
            moment = moment * decay + tl.sum(tl.where(probs > 0, probs * x, 0.0), axis=0)
        top = new_top
    log_total = top + tl.log(total)
    tl.store(nll_ptr + row, log_total - target_logit)
    tl.store(is_top_ptr + row, target_logit >= top)
    if with_entropy:
        tl.store(entropy_ptr + row, log_total - moment / total)

    if with_grad:
        for start in range(0, vocab_size, block_size):
            columns = start + tl.arange(0, block_size)
            x = tl.load(logits_ptr + columns, mask=columns < vocab_size, other=0.0).to(tl.float32)
            x = _transform(x, logit_scale, logit_softcap, has_softcap)
            x = tl.where(columns == target, target_logit, x)
            grad = tl.exp(x - top) / total - tl.where(columns == target, 1.0, 0.0)
            if has_softcap:
                grad *= 1 - (x / logit_softcap) * (x / logit_softcap)
            tl.store(logits_ptr + columns, grad.to(logits_ptr.dtype.element_ty), mask=columns < vocab_size)


@triton.jit  # type: ignore[untyped-decorator]
def _transform(x: tl.tensor, logit_scale: tl.tensor, logit_softcap: tl.tensor, has_softcap: tl.constexpr) -> tl.tensor:
    x = x * logit_scale
    if has_softcap:
        x = logit_softcap * (2 * tl.sigmoid(2 * x / logit_softcap) - 1)  # tanh
    return x
