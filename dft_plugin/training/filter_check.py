"""The measured error of a filtered gradient on a real micro-batch."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dft_plugin.core.context import TokenContext
from dft_plugin.core.linear_loss import linear_loss
from dft_plugin.core.objective import Objective
from dft_plugin.training.measured_rows import measured_rows


class FilterReport(NamedTuple):
    """Report of the effect of `gradient_filter`.

    Attributes:
        bound: A column stays where its mass is above this multiple of the mean.
        kept_columns: Share of the vocabulary that stayed; None for an objective that is not filtered.
        distance: Relative distance of the gradient of the hidden states from the exact one, in float32.
    """

    bound: float
    kept_columns: float | None
    distance: float

    def __str__(self) -> str:
        if self.kept_columns is None:
            return f"gradient_filter={self.bound:g} has no effect: the objective's divergence is never filtered"
        if self.kept_columns == 1:
            return f"gradient_filter={self.bound:g} keeps too many columns on the first batch; it was computed exactly"
        return (
            f"gradient_filter={self.bound:g} keeps {self.kept_columns:.1%} of the vocabulary's columns on the first "
            f"batch; the gradient of the hidden states is {self.distance:.1e} from the exact one, the head's is exact"
        )


def measure_filter(
    hidden: Tensor,
    head: nn.Linear,
    labels: Tensor,
    objective: Objective,
    context: TokenContext,
    *,
    shift: bool,
    chunk_size: int | None,
    bound: float,
    **logit_options: Any,
) -> FilterReport:
    """Compare the filtered gradient of up to 256 kept tokens with the exact one, in float32.

    Args:
        hidden: What the head was called with, shape (..., T, H).
        head: The vocabulary projection.
        labels: Shape (..., T).
        objective: What is trained.
        context: What the objective needs besides.
        shift: Whether position t predicts label t + 1.
        chunk_size: See `linear_loss`.
        bound: See `linear_loss`.
        logit_options: `logit_scale` and `logit_softcap`, where the model has them.
    """
    hidden, labels, context, weight, bias = measured_rows(hidden, head, labels, context, shift=shift)
    gradients: list[Tensor] = []
    with torch.enable_grad(), torch.autocast(hidden.device.type, enabled=False):
        for gradient_filter in (None, bound):
            leaf = hidden.float().requires_grad_()
            output = linear_loss(
                leaf,
                weight.float(),
                labels,
                bias=None if bias is None else bias.float(),
                objective=objective,
                shift=False,
                chunk_size=chunk_size,
                context=context,
                gradient_filter=gradient_filter,
                **logit_options,
            )
            gradients += torch.autograd.grad(output.loss, leaf)
    exact, filtered = gradients
    return FilterReport(bound, output.kept_columns, float((filtered - exact).norm() / exact.norm().clamp(min=1e-30)))
