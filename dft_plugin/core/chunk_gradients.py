"""The gradients of a chunked linear loss, added up over chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dft_plugin.core.column_filter import filtered_product, select_columns
from dft_plugin.core.row_softmax import row_blocks

if TYPE_CHECKING:
    from dft_plugin.core.chunked_linear import LinearCall

# A bfloat16 sum of more chunks than this loses what is added to it: 1/256 is half a unit in its last place.
MAX_LOW_PRECISION_SUMS = 256
# One row in so many of a bfloat16 dW is added up in float32: those of the most frequent targets. On real hidden states
# they hold nearly all of what adding up chunks costs, 7.7e-3 of dW at 64 chunks; 1.0e-3 is left.
_ROWS_PER_EXACT_ROW = 64
# Rows of dW that a float32 accumulation adds at a time.
_TILE_ROWS = 8192


class ChunkGradients:
    """Gradients of the loss with respect to hidden, weight and bias, summed over chunks.

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
        self._rows, self._targets = call.kept.rows, call.kept.targets
        self._exact_rows: _ExactRows | None = None
        self._dtypes = [torch.float32 if call.dtype == torch.float16 else x.dtype for x in (hidden, weight)]
        needs_hidden, needs_weight, needs_bias = call.needs_grad
        if needs_hidden:
            self.hidden = hidden.new_zeros(hidden.shape, dtype=self._dtypes[0])
        if needs_weight:
            is_long_sum = call.dtype == torch.bfloat16 and num_chunks > MAX_LOW_PRECISION_SUMS
            dtype = torch.float32 if is_long_sum else self._dtypes[1]
            # what the first chunk overwrites needs no zeros
            make = weight.new_empty if num_chunks and dtype == call.dtype else weight.new_zeros
            self.weight = make(weight.shape, dtype=dtype)
            if self.weight.dtype == torch.bfloat16 and num_chunks > 1:
                self._exact_rows = _ExactRows(self.weight, call.kept.targets)
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
            grad_hidden = (grad_hidden * (factor / self._divisor)[:, None]).to(self.hidden.dtype)
            self.hidden.view(-1, self.hidden.shape[-1]).index_copy_(0, self._rows[chunk], grad_hidden)
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
            if self._exact_rows is not None:
                self._exact_rows.add(grad_logits, weighted_h)
            return
        # float16 has no room for h times a small probability, so the chunk's largest factor stays outside
        peak = factor.abs().amax().clamp(min=torch.finfo(factor.dtype).tiny)
        weighted_h = (h * (factor / peak)[:, None]).to(h.dtype)
        for start in range(0, self.weight.shape[0], _TILE_ROWS):
            tile = slice(start, start + _TILE_ROWS)
            product = torch.mm(grad_logits[:, tile].t(), weighted_h)
            self.weight[tile].addcmul_(product, peak, value=1 / self._divisor)

    def finished(self) -> ChunkGradients:
        """Itself, with float32 sums of bfloat16 chunks rounded once."""
        if self.weight is not None:
            if self._exact_rows is not None:
                self._exact_rows.write(self.weight, self._divisor)
            self.weight = self.weight.to(self._dtypes[1])
        return self


class _ExactRows:
    """The rows of dW with the most frequent targets, added up in float32 beside the whole in bfloat16."""

    def __init__(self, grad_weight: Tensor, targets: Tensor) -> None:
        counts = targets.new_zeros(grad_weight.shape[0]).index_add_(0, targets, torch.ones_like(targets))
        self._ids = counts.topk(-(-grad_weight.shape[0] // _ROWS_PER_EXACT_ROW)).indices
        self._sums = grad_weight.new_zeros((self._ids.numel(), grad_weight.shape[1]), dtype=torch.float32)

    def add(self, grad_logits: Tensor, weighted_h: Tensor) -> None:
        """One chunk: `grad_logits` (c, V) and the weighted hidden states (c, H)."""
        self._sums += torch.mm(select_columns(grad_logits, self._ids).t(), weighted_h)

    def write(self, grad_weight: Tensor, divisor: float) -> None:
        """The sums over `divisor`, into their rows."""
        grad_weight.index_copy_(0, self._ids, (self._sums / divisor).to(grad_weight.dtype))
