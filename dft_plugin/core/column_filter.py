"""The gradient of hidden states from the vocabulary columns that carry it, the others as one rank-1 term.

Over a chunk, most columns of the logits' gradient hold almost nothing. Those whose summed weighted mass is above a
bound stay as they are, and those of the chunk's targets always; the rest is replaced by the outer product of its row
sums and its column sums, which keeps both. An approximation, and for the gradient of the hidden states alone: a row of
the head's own gradient would keep its sum only, and Adam divides by the size of a row.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as fn

# Where more columns would stay, choosing and copying them costs as much as it saves.
MAX_KEPT_SHARE = 0.4
AUTO_BOUND = 0.125
"""The bound behind `gradient_filter: auto`: on real hidden states a tenth of the columns stays."""
# So many rows make one sum of a low precision; the sums are added up in that of the factors.
_ROWS_PER_BAG = 4096


class FilteredProduct(NamedTuple):
    """The product, shape (c, H), in the precision of the factors, or None where the exact one is cheaper.

    Attributes:
        product: grad_logits @ projection, nearly.
        kept_share: Share of the columns above the bound.
    """

    product: Tensor | None
    kept_share: float


def filtered_product(
    grad_logits: Tensor, projection: Tensor, factor: Tensor, targets: Tensor, row_sums: Tensor, *, bound: float
) -> FilteredProduct:
    """Nearly grad_logits @ projection; waits for the number of columns that stay.

    Args:
        grad_logits: Gradient of each row's nll, shape (c, V).
        projection: Shape (V, H), the same dtype.
        factor: What each row of the product will be multiplied by, shape (c,), float32 or float64.
        targets: Target ids of the rows, int64, shape (c,).
        row_sums: Sum of each row of `grad_logits`, shape (c,), the dtype of `factor`.
        bound: A column stays where its mass, the sum over rows of |factor| * gradient, is above `bound` times the
            mean over all columns but the targets'.
    """
    vocab_size = projection.shape[0]
    share = factor.abs()
    share = share / share.amax().clamp(min=torch.finfo(share.dtype).tiny)  # float16 has no room for tiny factors
    masses = _weighted_sum(share, grad_logits)
    masses.index_fill_(0, targets, 0.0)
    is_kept = masses > bound * masses.sum() / vocab_size
    is_kept.index_fill_(0, targets, True)
    columns = is_kept.nonzero().squeeze(1)
    kept_share = columns.numel() / vocab_size
    if kept_share > MAX_KEPT_SHARE:
        return FilteredProduct(None, kept_share)
    kept = select_columns(grad_logits, columns)
    product = torch.mm(kept, projection.index_select(0, columns)).to(factor.dtype)
    masses.index_fill_(0, columns, 0.0)
    total = masses.sum()
    mean_row = _weighted_sum(masses, projection) / total.where(total > 0, 1.0)
    rest = row_sums - kept.sum(1, dtype=factor.dtype)
    return FilteredProduct(product.addcmul_(rest[:, None], mean_row), kept_share)


def select_columns(x: Tensor, columns: Tensor) -> Tensor:
    """The `columns`, int64, shape (K,), of `x`, shape (c, V): as index_select, in half its time on a CPU."""
    return x.gather(1, columns.expand(x.shape[0], -1))


def _weighted_sum(weights: Tensor, rows: Tensor) -> Tensor:
    """The product weights @ rows, shape (W,), in the dtype of `weights`.

    Args:
        weights: Shape (R,), float32 or float64.
        rows: Shape (R, W).
    """
    low = weights.to(rows.dtype)
    if rows.device.type != "cpu":
        return torch.mm(low[None], rows).squeeze(0).to(weights.dtype)
    # a matrix product is made for many rows: with one it takes up to twice as long on a CPU
    num_rows = rows.shape[0]
    starts = torch.arange(0, num_rows, _ROWS_PER_BAG)
    sums = fn.embedding_bag(torch.arange(num_rows), rows, starts, mode="sum", per_sample_weights=low)
    return sums.sum(0, dtype=weights.dtype)
