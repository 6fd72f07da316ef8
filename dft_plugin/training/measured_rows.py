"""The first kept tokens of a real micro-batch, on which the fused loss is tested before and while it trains."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from torch import Tensor, nn

from dft_plugin.core.context import TokenContext

_MAX_TOKENS = 256


class MeasuredRows(NamedTuple):
    """Up to 256 kept tokens as one row without masked positions, everything detached.

    Attributes:
        hidden: Hidden states that predict them, shape (N, H).
        labels: The tokens, shape (N,); position i of `hidden` predicts label i.
        context: What the objective needs besides, of these tokens alone.
        weight: The head's weight, shape (V, H).
        bias: The head's bias, shape (V,), or None.
    """

    hidden: Tensor
    labels: Tensor
    context: TokenContext
    weight: Tensor
    bias: Tensor | None


def measured_rows(
    hidden: Tensor, head: nn.Linear, labels: Tensor, context: TokenContext, *, shift: bool
) -> MeasuredRows:
    """Select the first kept tokens of a micro-batch.

    Args:
        hidden: What the head was called with, shape (..., T, H).
        head: The vocabulary projection.
        labels: Shape (..., T).
        context: What the objective needs besides.
        shift: Whether position t predicts label t + 1.
    """
    labels = labels.to(hidden.device)
    if shift:
        hidden, labels = hidden[..., :-1, :], labels[..., 1:]
    rows = (labels.reshape(-1) != -100).nonzero().squeeze(1)[:_MAX_TOKENS]
    return MeasuredRows(
        hidden.detach().reshape(-1, hidden.shape[-1])[rows],
        labels.reshape(-1)[rows],
        _at_rows(context, rows, shift=shift),
        head.weight.detach(),
        None if head.bias is None else head.bias.detach(),
    )


def _at_rows(context: TokenContext, rows: Tensor, *, shift: bool) -> TokenContext:
    """The context of some predicting positions alone, as one row of that length."""

    def select(values: Tensor | None, *, is_label: bool) -> Tensor | None:
        if values is None:
            return None
        dim = 1 if is_label else 2
        if shift:
            values = values[..., 1:] if is_label else values[..., :-1, :]
        return values.detach().to(rows.device).flatten(0, values.dim() - dim)[rows]

    return replace(
        context,
        ref_logps=select(context.ref_logps, is_label=True),
        segments=select(context.segments, is_label=True),
        routes=select(context.routes, is_label=True),
        ref_hidden=select(context.ref_hidden, is_label=False),
    )
