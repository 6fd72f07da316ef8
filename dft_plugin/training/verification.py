"""The self-test of the fused loss on a real micro-batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from dft_plugin.core.context import TokenContext
from dft_plugin.core.linear_loss import linear_loss
from dft_plugin.core.logits_loss import logits_loss
from dft_plugin.core.objective import Objective
from dft_plugin.errors import IntegrationError
from dft_plugin.training.logit_transform import LogitTransform
from dft_plugin.training.measured_rows import measured_rows


def verify_fused(
    hidden: Tensor,
    head: nn.Linear,
    labels: Tensor,
    objective: Objective,
    context: TokenContext,
    *,
    shift: bool,
    chunk_size: int | None,
    transform: LogitTransform,
) -> bool:
    """Compare the fused loss and its gradient with the float32 logits path, on up to 256 kept tokens.

    Args:
        hidden: What the head was called with, shape (..., T, H).
        head: The vocabulary projection.
        labels: Shape (..., T).
        objective: What is trained.
        context: What the objective needs besides.
        shift: Whether position t predicts label t + 1.
        chunk_size: See `linear_loss`.
        transform: What the model does to its logits after the head.

    Returns:
        False where no token was kept, so that nothing could be compared.

    Raises:
        IntegrationError: they differ by more than rounding in the head's dtype explains.
    """
    hidden, labels, context, weight, bias = measured_rows(hidden, head, labels, context, shift=shift)
    if not labels.numel():
        return False

    def logits_of(states: Tensor) -> Tensor:
        return transform.apply(
            nn.functional.linear(states.float(), weight.float(), None if bias is None else bias.float())
        )

    options: dict[str, Any] = {"objective": objective, "shift": False}
    kernel: dict[str, Any] = {
        "logit_scale": transform.logit_scale,
        "logit_softcap": transform.softcap,
        "chunk_size": chunk_size,
    }
    with torch.enable_grad():
        fused_hidden = hidden.clone().requires_grad_()
        fused = linear_loss(fused_hidden, weight, labels, bias=bias, context=context, **kernel, **options)
        (fused_grad,) = torch.autograd.grad(fused.loss, fused_hidden)
        plain_hidden = hidden.float().requires_grad_()
        with torch.autocast(hidden.device.type, enabled=False):
            if context.ref_hidden is not None:
                context = replace(context, ref_hidden=None, ref_logits=logits_of(context.ref_hidden))
            plain = logits_loss(logits_of(plain_hidden), labels, context=context, **options)
        (plain_grad,) = torch.autograd.grad(plain.loss, plain_hidden)
    is_low = torch.is_autocast_enabled(hidden.device.type) or weight.dtype in (torch.bfloat16, torch.float16)
    tolerance = 5e-2 if is_low else 1e-3
    errors = {
        "loss": float(((fused.loss - plain.loss).abs() / plain.loss.abs().clamp(min=1e-12)).detach()),
        "gradient": float((fused_grad.float() - plain_grad).norm() / plain_grad.norm().clamp(min=1e-12)),
    }
    if not all(error <= tolerance for error in errors.values()):
        raise IntegrationError(
            "the fused loss differs from the float32 logits path on the first micro-batch: relative errors "
            f"{errors}, at most {tolerance} is rounding. Nothing was trained. Set `fused: false` and "
            "please report this with the output of `dft doctor --json`."
        )
    return True
