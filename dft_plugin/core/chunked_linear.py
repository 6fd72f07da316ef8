"""The engine of `linear_loss`: loss and gradients of a vocabulary projection, one chunk of logits at a time.

For each chunk of c kept tokens there are three matrix products and nothing else of their size:

    logits = h W^T - pivot    (c, V)  into the one chunk buffer
    logits -> p - onehot      (c, V)  in place, with nll (c,)
    w = weigh(statistics)     (c,)
    dH = w * (logits W)       (c, H)  w never touches a (c, V) array
    dW += logits^T (w * h)    (V, H)  not with a frozen head

In low precision a row's pivot is near its largest logit, so that the digits of the others are spent on their distance
from it: around 29, where the logits of trained models lie, bfloat16 has steps of 0.125, and every probability would be
off by 4%. A softmax does not see the constant. Wider dtypes have no pivot.

The gradients exist when forward returns; backward multiplies them by the gradient of the loss. Weights that
depend on a whole sequence fit in as a first pass without gradients, whose nll makes the `weigh` of a second.
An objective with a reference needs its logits too, in a second buffer that becomes their gradient's difference.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dft_plugin.core import row_softmax
from dft_plugin.core.chunk_gradients import ChunkGradients
from dft_plugin.core.chunk_product import ChunkProduct
from dft_plugin.core.reduction import KeptTokens
from dft_plugin.core.row_kl import kl_rows_, mix_rows_
from dft_plugin.core.row_softmax import RowStatistics

_HAS_TRITON = importlib.util.find_spec("triton") is not None
# Low-precision products of an odd number of rows are padded, in a copy of the whole chunk.
CHUNK_UNIT = 32

Weigh = Callable[[slice, RowStatistics], tuple[Tensor, Tensor | None]]


@dataclass(frozen=True)
class LinearCall:
    """One call of the fused loss, without its differentiable tensors.

    Attributes:
        kept: Positions that carry loss.
        weigh: (slice of the kept tokens, their statistics) -> their weights, shape (c,), and the factors of
            their divergence from the reference, shape (c,), or None.
        token_scale: Factor of each kept token's loss, shape (N,), in the dtype of the statistics; or None.
        logit_scale: Factor of the logits.
        logit_softcap: Bound of the logits, applied after the factor.
        chunk_size: Most rows of logits at a time.
        dtype: Dtype of the matrix products.
        needs_grad: Whether hidden, weight and bias need a gradient.
        wants: Which optional statistics `weigh` reads.
        ref_hidden: Hidden states of a frozen reference with the same head, shape (..., T, H), for the divergence.
        gradient_filter: Bound of `column_filter` for the gradient of hidden; None for the exact one.
    """

    kept: KeptTokens
    weigh: Weigh
    token_scale: Tensor | None
    logit_scale: float
    logit_softcap: float | None
    chunk_size: int
    dtype: torch.dtype
    needs_grad: tuple[bool, bool, bool]
    wants: frozenset[str] = frozenset()
    ref_hidden: Tensor | None = None
    gradient_filter: float | None = None

    @property
    def statistics_dtype(self) -> torch.dtype:
        """Float64 for float64 inputs, else float32: bf16 log-probabilities would be off by about 1e-2."""
        return torch.float64 if self.dtype == torch.float64 else torch.float32


class LinearResult(NamedTuple):
    """Loss (scalar, the only one with a graph) and of each kept token (N,): weight, divergence, statistics.

    `kept_columns` is the mean share of the vocabulary in the gradient of hidden; None without `gradient_filter`.
    """

    loss: Tensor
    token_weight: Tensor
    kl: Tensor | None
    statistics: RowStatistics
    kept_columns: float | None = None


def chunked_linear_loss(hidden: Tensor, weight: Tensor, bias: Tensor | None, call: LinearCall) -> LinearResult:
    """Token-weighted cross-entropy of hidden @ weight.T + bias over the kept tokens.

    Args:
        hidden: Shape (..., T, H).
        weight: Shape (V, H).
        bias: Shape (V,), or None.
        call: Everything else.
    """
    return LinearResult(*_ChunkedLinearLoss.apply(hidden, weight, bias, call))  # type: ignore[no-untyped-call]


def even_chunks(num_rows: int, chunk_size: int, *, unit: int = 1) -> list[slice]:
    """The fewest slices of at most `chunk_size` rows, nearly equal: a ragged tail costs a whole chunk.

    Args:
        num_rows: How many rows.
        chunk_size: Most rows of a slice.
        unit: Bounds are multiples of it, where `chunk_size` is one.
    """
    unit = unit if chunk_size % unit == 0 else 1
    num_chunks, num_units = -(-num_rows // chunk_size), -(-num_rows // unit)
    bounds = [min(index * num_units // max(num_chunks, 1) * unit, num_rows) for index in range(num_chunks + 1)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]


class _ChunkedLinearLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, call: LinearCall) -> LinearResult:
        with torch.autocast(hidden.device.type, enabled=False):  # dtypes are chosen here, one by one
            result, grads = _loss_and_gradients(hidden, weight, bias, call)
        ctx.save_for_backward(grads.hidden, grads.weight, grads.bias)
        ctx.dtypes = [x.dtype for x in (hidden, weight, bias) if x is not None]
        ctx.is_scaled = False
        ctx.mark_non_differentiable(result.token_weight, *(() if result.kl is None else (result.kl,)))
        return result

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "create_graph=True through linear_loss: its gradients were made in forward and have no graph of their "
                "own. Use logits_loss for derivatives of gradients."
            )
        if ctx.is_scaled:
            raise RuntimeError(
                "second backward through one linear_loss: its gradients were made once, in forward, and the first "
                "backward has scaled them in place. Call linear_loss again instead of using retain_graph=True."
            )
        grad_hidden, grad_weight, grad_bias = ctx.saved_tensors
        # On a GPU, waiting for the scalar costs more than multiplying by one.
        if grad_loss.device.type != "cpu" or grad_loss != 1:
            ctx.is_scaled = True
            for grad in (grad_hidden, grad_weight, grad_bias):
                if grad is not None:
                    grad.mul_(grad_loss)
        if grad_hidden is not None:
            grad_hidden = grad_hidden.to(ctx.dtypes[0])
        if grad_weight is not None:
            grad_weight = grad_weight.to(ctx.dtypes[1])
        if grad_bias is not None:
            grad_bias = grad_bias.to(ctx.dtypes[2])
        return grad_hidden, grad_weight, grad_bias, None


def _loss_and_gradients(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, call: LinearCall
) -> tuple[LinearResult, ChunkGradients]:
    rows, targets = call.kept.rows, call.kept.targets
    is_low = call.dtype != call.statistics_dtype
    chunks = even_chunks(rows.numel(), call.chunk_size, unit=CHUNK_UNIT if is_low else 1)
    grads = ChunkGradients(hidden, weight, bias, call, num_chunks=len(chunks))
    flat_hidden = hidden.reshape(-1, hidden.shape[-1])
    product = ChunkProduct(weight, bias, call)
    shape = max((chunk.stop - chunk.start for chunk in chunks), default=0), weight.shape[0]
    buffer = hidden.new_empty(shape, dtype=call.dtype)
    flat_ref = None if call.ref_hidden is None else call.ref_hidden.reshape(-1, hidden.shape[-1])
    ref_buffer = None if flat_ref is None else torch.empty_like(buffer)
    statistics = RowStatistics.empty(hidden.new_empty(rows.shape, dtype=call.statistics_dtype), call.wants)
    token_weight = torch.empty_like(statistics.nll)
    kl = None if flat_ref is None else torch.zeros_like(token_weight)
    loss = token_weight.new_zeros(())
    softmax_rows_ = _softmax_rows(buffer, call.statistics_dtype)
    for chunk in chunks:
        # Only kept rows are ever read, so NaN in a masked one cannot leak.
        h = flat_hidden.index_select(0, rows[chunk]).to(call.dtype)
        logits, target_logits, pivots = product.into(buffer, h, targets[chunk])
        if flat_ref is not None and ref_buffer is not None and kl is not None:
            ref_h = flat_ref.index_select(0, rows[chunk]).to(call.dtype)
            ref_logits, _, ref_pivots = product.into(ref_buffer, ref_h, targets[chunk])
            divergence = kl_rows_(
                logits, ref_logits, pivots, ref_pivots, dtype=call.statistics_dtype, logit_map=product.logit_map
            )
            kl[chunk] = divergence.kl
        found = softmax_rows_(
            logits,
            targets[chunk],
            target_logits,
            pivots,
            logit_map=product.logit_map,
            with_grad=any(call.needs_grad),
            wants=call.wants,
        )
        statistics.write(chunk, found)
        token_weight[chunk], kl_scale = call.weigh(chunk, found)
        scale = 1.0 if call.token_scale is None else call.token_scale[chunk]
        factor = token_weight[chunk] * scale
        loss += (factor * found.nll).sum()
        rounding = found.rounding
        if kl is not None and kl_scale is not None:
            anchor = kl_scale * scale
            loss += (anchor * kl[chunk]).sum()
            if any(call.needs_grad):  # two gradients with factors of their own: one array before the products
                roundings = rounding, divergence.rounding
                rounding = mix_rows_(logits, ref_logits, factor, anchor, roundings)
                factor = torch.ones_like(factor)
        grads.add(chunk, logits, h, product.projection, factor * call.logit_scale, rounding)
    loss /= call.kept.divisor
    return LinearResult(loss, token_weight, kl, statistics, grads.kept_columns), grads.finished()


def _softmax_rows(buffer: Tensor, dtype: torch.dtype) -> Callable[..., RowStatistics]:
    """The Triton kernel on a GPU, else plain PyTorch; the same numbers either way."""
    if buffer.device.type != "cuda" or dtype == torch.float64 or not _HAS_TRITON:
        return partial(row_softmax.softmax_rows_, scratch=row_softmax.row_scratch(buffer, dtype))
    from dft_plugin.core import row_kernel

    return row_kernel.softmax_rows_
