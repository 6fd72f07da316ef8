"""Triton form of `row_softmax`: one program per row reads the logits twice and writes the gradient once."""

from __future__ import annotations

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from dft_plugin.core.row_softmax import LogitMap, RowStatistics, row_blocks, top_entropy

_BLOCK = 8192
_NUM_WARPS = 16


def softmax_rows_(
    logits: Tensor,
    targets: Tensor,
    target_logits: Tensor,
    pivots: Tensor | None,
    *,
    logit_map: LogitMap,
    with_grad: bool,
    wants: frozenset[str],
) -> RowStatistics:
    """As `row_softmax.softmax_rows_`, for contiguous logits of up to 32 bits; all arithmetic in float32."""
    num_rows, vocab_size = logits.shape
    statistics = RowStatistics.empty(target_logits, wants)
    nll, is_top, entropy, top, concentration, _ = statistics
    rounding = torch.empty_like(nll) if with_grad and logits.dtype != nll.dtype else None
    if top is not None:  # a selection, not a reduction: left to torch, before the rows are overwritten
        for block in row_blocks(logits):
            x = logits[block].to(torch.float32, copy=True)
            if logit_map.bias is not None:
                x.add_(logit_map.bias)
            x.scatter_(1, targets[block, None], target_logits[block, None])
            logit_map.transform_(x, None if pivots is None else pivots[block])
            top[block] = top_entropy(x)
    softcap = logit_map.logit_softcap
    _softmax_rows_kernel[(num_rows,)](
        logits,
        targets,
        target_logits,
        target_logits if pivots is None else pivots,
        target_logits if logit_map.bias is None else logit_map.bias,
        nll,
        is_top,
        nll if entropy is None else entropy,
        nll if concentration is None else concentration,
        nll if rounding is None else rounding,
        vocab_size,
        float(logit_map.logit_scale),
        float(softcap or 1),
        has_softcap=softcap is not None,
        has_pivot=softcap is not None and pivots is not None,  # a softmax does not see a constant, tanh does
        has_bias=logit_map.bias is not None,
        with_grad=with_grad,
        with_entropy=entropy is not None,
        with_concentration=concentration is not None,
        with_rounding=rounding is not None,
        block_size=_BLOCK,
        num_warps=_NUM_WARPS,
    )
    return statistics._replace(rounding=rounding)


@triton.jit  # type: ignore[untyped-decorator]
def _softmax_rows_kernel(
    logits_ptr: tl.tensor,
    targets_ptr: tl.tensor,
    target_logits_ptr: tl.tensor,
    pivots_ptr: tl.tensor,
    bias_ptr: tl.tensor,
    nll_ptr: tl.tensor,
    is_top_ptr: tl.tensor,
    entropy_ptr: tl.tensor,
    concentration_ptr: tl.tensor,
    rounding_ptr: tl.tensor,
    vocab_size: tl.tensor,
    logit_scale: tl.tensor,
    logit_softcap: tl.tensor,
    has_softcap: tl.constexpr,
    has_pivot: tl.constexpr,
    has_bias: tl.constexpr,
    with_grad: tl.constexpr,
    with_entropy: tl.constexpr,
    with_concentration: tl.constexpr,
    with_rounding: tl.constexpr,
    block_size: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)  # rows * vocab_size passes 2^31
    logits_ptr += row * vocab_size
    target = tl.load(targets_ptr + row)
    pivot = 0.0
    if has_pivot:
        pivot = tl.load(pivots_ptr + row)
    target_logit = _transform(tl.load(target_logits_ptr + row) + pivot, logit_scale, logit_softcap, has_softcap)

    top = target_logit  # a finite start: -inf - -inf would be NaN in a block that is masked throughout
    total = 0.0
    moment = 0.0
    squares = 0.0
    for start in range(0, vocab_size, block_size):
        columns = start + tl.arange(0, block_size)
        x = tl.load(logits_ptr + columns, mask=columns < vocab_size, other=float("-inf")).to(tl.float32)
        if has_bias:
            x += tl.load(bias_ptr + columns, mask=columns < vocab_size, other=0.0)
        x = _transform(x + pivot, logit_scale, logit_softcap, has_softcap)
        x = tl.where(columns == target, target_logit, x)
        x = tl.where(columns < vocab_size, x, float("-inf"))  # the softcap lifts -inf to -logit_softcap
        new_top = tl.maximum(top, tl.max(x, axis=0))
        decay = tl.exp(top - new_top)
        probs = tl.exp(x - new_top)
        total = total * decay + tl.sum(probs, axis=0)
        if with_entropy:
            moment = moment * decay + tl.sum(tl.where(probs > 0, probs * x, 0.0), axis=0)
        if with_concentration:
            squares = squares * decay * decay + tl.sum(probs * probs, axis=0)
        top = new_top
    log_total = top + tl.log(total)
    tl.store(nll_ptr + row, log_total - target_logit)
    tl.store(is_top_ptr + row, target_logit >= top)
    if with_entropy:
        tl.store(entropy_ptr + row, log_total - moment / total)
    if with_concentration:
        tl.store(concentration_ptr + row, squares / (total * total))

    if with_grad:
        rounding = 0.0
        for start in range(0, vocab_size, block_size):
            columns = start + tl.arange(0, block_size)
            x = tl.load(logits_ptr + columns, mask=columns < vocab_size, other=0.0).to(tl.float32)
            if has_bias:
                x += tl.load(bias_ptr + columns, mask=columns < vocab_size, other=0.0)
            x = _transform(x + pivot, logit_scale, logit_softcap, has_softcap)
            x = tl.where(columns == target, target_logit, x)
            grad = tl.exp(x - top) / total - tl.where(columns == target, 1.0, 0.0)
            if has_softcap:
                grad *= 1 - (x / logit_softcap) * (x / logit_softcap)
            rounded = grad.to(logits_ptr.dtype.element_ty)
            tl.store(logits_ptr + columns, rounded, mask=columns < vocab_size)
            if with_rounding:
                rounding += tl.sum(tl.where(columns < vocab_size, rounded.to(tl.float32) - grad, 0.0), axis=0)
        if with_rounding:
            tl.store(rounding_ptr + row, rounding)


@triton.jit  # type: ignore[untyped-decorator]
def _transform(x: tl.tensor, logit_scale: tl.tensor, logit_softcap: tl.tensor, has_softcap: tl.constexpr) -> tl.tensor:
    x = x * logit_scale
    if has_softcap:
        x = logit_softcap * (2 * tl.sigmoid(2 * x / logit_softcap) - 1)  # tanh
    return x
