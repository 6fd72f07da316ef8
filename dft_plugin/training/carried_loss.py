"""A scalar that travels through a model's outputs, so that its wrappers' hooks see an ordinary graph.

What the model does to the scalar on the way (a scale, a cap) is undone: the loss arrives with its value, and its
gradient goes back past those operations unchanged.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dft_plugin.errors import IntegrationError


class CarriedLoss:
    """One loss on its way from the head to the trainer.

    Args:
        loss: Scalar, with its graph.
        dtype: What the head's own output would be.
    """

    def __init__(self, loss: Tensor, dtype: torch.dtype) -> None:
        self._value = loss.detach()
        self._needs_grad = loss.requires_grad
        self._gradient: list[Tensor] = []
        self.departed: Tensor = _Depart.apply(loss, dtype, self._gradient)  # type: ignore[no-untyped-call]

    def arrive(self, handed_on: Tensor) -> Tensor:
        """The loss, behind the graph of what the model handed on.

        Args:
            handed_on: What became of `departed`, a scalar.

        Raises:
            IntegrationError: its graph was cut.
        """
        if self._needs_grad and not handed_on.requires_grad:
            raise IntegrationError(
                "the model detaches its logits, so no gradient would reach lm_head. Nothing was trained."
            )
        arrived: Tensor = _Arrive.apply(handed_on, self._value, self._gradient)  # type: ignore[no-untyped-call]
        return arrived


class _Depart(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: Tensor, dtype: torch.dtype, gradient: list[Tensor]) -> Tensor:
        ctx.gradient = gradient
        return loss.to(dtype, copy=True)  # a copy: the model may change it in place

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor | None, None, None]:
        return (ctx.gradient[0] if ctx.gradient else None), None, None


class _Arrive(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, handed_on: Tensor, value: Tensor, gradient: list[Tensor]) -> Tensor:
        ctx.gradient, ctx.dtype = gradient, handed_on.dtype
        return value.to(handed_on.device, copy=True)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        ctx.gradient[:] = [grad]
        return grad.to(ctx.dtype), None, None
