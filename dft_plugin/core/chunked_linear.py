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
from itertools import pairwise
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dft_plugin.core import row_softmax
from dft_plugin.core.column_filter import filtered_product
from dft_plugin.core.reduction import KeptTokens
from dft_plugin.core.row_kl import kl_rows_, mix_rows_
from dft_plugin.core.row_softmax import LogitMap, RowStatistics, row_blocks

_HAS_TRITON = importlib.util.find_spec("triton") is not None
# Adding chunks into a bfloat16 dW costs accuracy from here on: 2.3e-3 becomes 3.3e-3 at 57 chunks.
_MAX_LOW_PRECISION_SUMS = 16
# Rows of dW that a float32 accumulation adds at a time.
_TILE_ROWS = 8192


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


def even_chunks(num_rows: int, chunk_size: int) -> list[slice]:
    """The fewest slices of at most `chunk_size` rows, equal to within one row: a ragged tail costs a whole chunk."""
    num_chunks = -(-num_rows // chunk_size)
    bounds = [index * num_rows // max(num_chunks, 1) for index in range(num_chunks + 1)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]


class _ChunkedLinearLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, call: LinearCall) -> LinearResult:
        with torch.autocast(hidden.device.type, enabled=False):  # dtypes are chosen here, one by one
            result, grads = _loss_and_gradients(hidden, weight, bias, call)
        ctx.save_for_backward(grads.hidden, grads.weight, grads.bias, call.kept.rows)
        ctx.inputs = [(x.shape, x.dtype) for x in (hidden, weight, bias) if x is not None]
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
        grad_hidden, grad_weight, grad_bias, rows = ctx.saved_tensors
        # On a GPU, waiting for the scalar costs more than multiplying by one.
        if grad_loss.device.type != "cpu" or grad_loss != 1:
            ctx.is_scaled = True
            for grad in (grad_hidden, grad_weight, grad_bias):
                if grad is not None:
                    grad.mul_(grad_loss)
        if grad_hidden is not None:
            shape, dtype = ctx.inputs[0]
            packed = grad_hidden.to(dtype)
            grad_hidden = packed.new_zeros(shape)
            grad_hidden.view(-1, shape[-1]).index_copy_(0, rows, packed)
        if grad_weight is not None:
            grad_weight = grad_weight.to(ctx.inputs[1][1])
        if grad_bias is not None:
            grad_bias = grad_bias.to(ctx.inputs[2][1])
        return grad_hidden, grad_weight, grad_bias, None


def _loss_and_gradients(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, call: LinearCall
) -> tuple[LinearResult, _Gradients]:
    rows, targets = call.kept.rows, call.kept.targets
    chunks = even_chunks(rows.numel(), call.chunk_size)
    grads = _Gradients(hidden, weight, bias, call, num_chunks=len(chunks))
    flat_hidden = hidden.reshape(-1, hidden.shape[-1])
    product = _Product(weight, bias, call)
    shape = -(-rows.numel() // max(len(chunks), 1)), weight.shape[0]
    buffer = hidden.new_empty(shape, dtype=call.dtype)
    flat_ref = None if call.ref_hidden is None else call.ref_hidden.reshape(-1, hidden.shape[-1])
    ref_buffer = None if flat_ref is None else torch.empty_like(buffer)
    statistics = RowStatistics.empty(hidden.new_empty(rows.shape, dtype=call.statistics_dtype), call.wants)
    token_weight = torch.empty_like(statistics.nll)
    kl = None if flat_ref is None else torch.zeros_like(token_weight)
    loss = token_weight.new_zeros(())
    row_math = _row_math(hidden.device.type, call.dtype)
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
        found = row_math.softmax_rows_(
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


class _ChunkLogits(NamedTuple):
    """Logits of a chunk, (c, V), the targets' own in the precision of the statistics, (c,), and their pivots, (c,)."""

    logits: Tensor
    targets: Tensor
    pivots: Tensor | None


class _Product:
    """The matrix product that makes the logits of a chunk.

    Attributes:
        projection: The weight in the dtype of the products, shape (V, H).
        logit_map: What makes the model's logits of the product.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, call: LinearCall) -> None:
        self.projection = weight.to(call.dtype)
        self._bias = None if bias is None else bias.to(call.dtype)
        self._dtype = call.statistics_dtype
        self._is_low = call.dtype != self._dtype
        late_bias = self._bias.to(self._dtype) if self._is_low and self._bias is not None else None
        self.logit_map = LogitMap(call.logit_scale, call.logit_softcap, late_bias)

    def into(self, buffer: Tensor, h: Tensor, targets: Tensor) -> _ChunkLogits:
        """The product of `h`, shape (c, H), in the first rows of `buffer`."""
        logits, transposed = buffer[: h.shape[0]], self.projection.t()
        if not self._is_low:
            if self._bias is None:
                torch.mm(h, transposed, out=logits)
            else:
                torch.addmm(self._bias, h, transposed, out=logits)
            return _ChunkLogits(logits, logits.gather(1, targets[:, None]).squeeze(1), None)
        of_targets = self.projection.index_select(0, targets)
        exact = (h.to(self._dtype) * of_targets).sum(1)
        rounded = self._tops(h, of_targets, targets)
        rounded = rounded.where(rounded.isfinite(), 0.0)  # float16 ends at 65504
        torch.addmm(rounded.neg()[:, None], h, transposed, out=logits)
        pivots = rounded.to(self._dtype)
        relative = exact - pivots
        late_bias = self.logit_map.bias
        return _ChunkLogits(
            logits, relative if late_bias is None else relative + late_bias.index_select(0, targets), pivots
        )

    def _tops(self, h: Tensor, of_targets: Tensor, targets: Tensor) -> Tensor:
        """Product of each row with the likeliest of the chunk's targets, shape (c,), rounded: near the row's top."""
        found = torch.mm(h, of_targets.t())
        sign = 1 if self.logit_map.logit_scale >= 0 else -1
        if self._bias is None:
            return found.mul_(sign).amax(1).mul_(sign)
        top = ((found + self._bias.index_select(0, targets)) * sign).argmax(1, keepdim=True)
        return found.gather(1, top).squeeze(1)


def _row_math(device_type: str, dtype: torch.dtype) -> ModuleType:
    """The Triton kernel on a GPU, else plain PyTorch; the same numbers either way."""
    if device_type != "cuda" or dtype == torch.float64 or not _HAS_TRITON:
        return row_softmax
    from dft_plugin.core import row_kernel

    return row_kernel


class _Gradients:
    """Gradients of the loss with respect to hidden (kept rows only), weight and bias, summed over chunks.

    float16 gradients wait in float32 for the gradient of the loss: a gradient scaler multiplies it by 2^16
    exactly because unscaled ones underflow.
    """

    def __init__(
        self, hidden: Tensor, weight: Tensor, bias: Tensor | None, call: LinearCall, *, num_chunks: int
    ) -> None:
        self.hidden: Tensor | None = None
        self.weight: Tensor | None = None
        self.bias: Tensor | None = None
        self._divisor = call.kept.divisor
        # the gradient of a divergence has columns of either sign, whose sum is no mass
        self._filter = call.gradient_filter if call.ref_hidden is None else None
        self._is_bent = call.logit_softcap is not None
        self._kept_shares: list[float] = []
        self._targets = call.kept.targets
        self._dtypes = [torch.float32 if call.dtype == torch.float16 else x.dtype for x in (hidden, weight)]
        needs_hidden, needs_weight, needs_bias = call.needs_grad
        if needs_hidden:
            self.hidden = hidden.new_empty((call.kept.rows.numel(), hidden.shape[-1]), dtype=self._dtypes[0])
        if needs_weight:
            is_long_sum = call.dtype == torch.bfloat16 and num_chunks > _MAX_LOW_PRECISION_SUMS
            self.weight = weight.new_zeros(weight.shape, dtype=torch.float32 if is_long_sum else self._dtypes[1])
        if needs_bias and bias is not None:
            self.bias = bias.new_zeros(bias.shape, dtype=call.statistics_dtype)

    def add(
        self,
        chunk: slice,
        grad_logits: Tensor,
        h: Tensor,
        projection: Tensor,
        factor: Tensor,
        rounding: Tensor | None,
    ) -> None:
        """Adds one chunk.

        Args:
            chunk: Its kept tokens.
            grad_logits: Gradient of the unweighted nll, shape (c, V).
            h: Hidden states, shape (c, H).
            projection: The weight, shape (V, H).
            factor: Factor of each token, shape (c,).
            rounding: What rounding added to the sum of each row of `grad_logits`, shape (c,), or None.
        """
        if self.hidden is not None:
            grad_hidden = self._product(grad_logits, projection, factor, self._targets[chunk], rounding)
            if rounding is not None:
                # The target's entry is the largest and so the worst rounded. Without this, what all rows of the
                # weight have in common would multiply the sum of the errors.
                of_targets = projection.index_select(0, self._targets[chunk])
                grad_hidden = torch.addcmul(grad_hidden.float(), of_targets, rounding[:, None], value=-1)
            self.hidden[chunk] = grad_hidden * (factor / self._divisor)[:, None]
        if self.weight is not None:
            self._add_weight(grad_logits, h, factor, is_first=chunk.start == 0)
        if self.bias is not None:
            for block in row_blocks(grad_logits):
                rows = grad_logits[block].to(self.bias.dtype)
                self.bias.addmv_(rows.t(), factor[block], alpha=1 / self._divisor)

    @property
    def kept_columns(self) -> float | None:
        """Mean share of the vocabulary in the gradient of hidden; None without a filter."""
        return sum(self._kept_shares) / len(self._kept_shares) if self._kept_shares else None

    def _product(
        self, grad_logits: Tensor, projection: Tensor, factor: Tensor, targets: Tensor, rounding: Tensor | None
    ) -> Tensor:
        """grad_logits @ projection, shape (c, H), filtered where that was asked for and pays."""
        if self._filter is not None:
            if self._is_bent:
                row_sums = grad_logits.sum(1, dtype=factor.dtype)
            else:
                row_sums = torch.zeros_like(factor) if rounding is None else rounding
            found = filtered_product(grad_logits, projection, factor, targets, row_sums, bound=self._filter)
            self._kept_shares.append(1.0 if found.product is None else found.kept_share)
            if found.product is not None:
                return found.product
        return torch.mm(grad_logits, projection)

    def _add_weight(self, grad_logits: Tensor, h: Tensor, factor: Tensor, *, is_first: bool) -> None:
        assert self.weight is not None
        if self.weight.dtype == grad_logits.dtype:
            weighted_h = (h * factor[:, None]).to(h.dtype)
            # beta=0 for the first chunk: nothing to read back
            self.weight.addmm_(grad_logits.t(), weighted_h, beta=0 if is_first else 1, alpha=1 / self._divisor)
            return
        # float16 has no room for h times a small probability, so the chunk's largest factor stays outside
        peak = factor.abs().amax().clamp(min=torch.finfo(factor.dtype).tiny)
        weighted_h = (h * (factor / peak)[:, None]).to(h.dtype)
        for start in range(0, self.weight.shape[0], _TILE_ROWS):
            tile = slice(start, start + _TILE_ROWS)
            product = torch.mm(grad_logits[:, tile].t(), weighted_h)
            self.weight[tile].addcmul_(product, peak, value=1 / self._divisor)

    def finished(self) -> _Gradients:
        """Itself, with a float32 sum of many bfloat16 chunks rounded once."""
        if self.weight is not None:
            self.weight = self.weight.to(self._dtypes[1])
        return self
