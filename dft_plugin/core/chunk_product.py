"""The matrix product that makes the logits of a chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from dft_plugin.core.row_softmax import LogitMap

if TYPE_CHECKING:
    from dft_plugin.core.chunked_linear import LinearCall


class ChunkLogits(NamedTuple):
    """Logits of a chunk, (c, V), the targets' own in the precision of the statistics, (c,), and their pivots, (c,)."""

    logits: Tensor
    targets: Tensor
    pivots: Tensor | None


class ChunkProduct:
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

    def into(self, buffer: Tensor, h: Tensor, targets: Tensor) -> ChunkLogits:
        """The product of `h`, shape (c, H), in the first rows of `buffer`."""
        logits, transposed = buffer[: h.shape[0]], self.projection.t()
        if not self._is_low:
            if self._bias is None:
                torch.mm(h, transposed, out=logits)
            else:
                torch.addmm(self._bias, h, transposed, out=logits)
            return ChunkLogits(logits, logits.gather(1, targets[:, None]).squeeze(1), None)
        of_targets = self.projection.index_select(0, targets)
        exact = (h.to(self._dtype) * of_targets).sum(1)
        rounded = self._tops(h, of_targets, targets)
        rounded = rounded.where(rounded.isfinite(), 0.0)  # float16 ends at 65504
        torch.addmm(rounded.neg()[:, None], h, transposed, out=logits)
        pivots = rounded.to(self._dtype)
        relative = exact - pivots
        late_bias = self.logit_map.bias
        return ChunkLogits(
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
