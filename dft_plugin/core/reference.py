"""Textbook float64 losses and gradients: slow, explicit, and independent of the code they check."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

WeightFunction = Callable[[Tensor, int], float]


class ReferenceOutput(NamedTuple):
    """Float64 truth.

    Attributes:
        loss: Scalar.
        grad_hidden: d loss / d hidden, shape (T, H).
        grad_weight: d loss / d lm_head_weight, shape (V, H).
        grad_bias: d loss / d bias, shape (V,).
    """

    loss: Tensor
    grad_hidden: Tensor
    grad_weight: Tensor
    grad_bias: Tensor


def sft_weight(probs: Tensor, target: int) -> float:
    """One (cross-entropy)."""
    return 1.0


def dft_weight(probs: Tensor, target: int) -> float:
    """Probability of the target (arXiv 2508.05629, Eq. 9)."""
    return float(probs[target])


def reference_loss(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    token_weight: WeightFunction,
    *,
    bias: Tensor | None = None,
    num_items: float | None = None,
    ignore_index: int = -100,
    token_scale: Tensor | None = None,
    logit_scale: float = 1.0,
    logit_softcap: float | None = None,
) -> ReferenceOutput:
    """Loss and hand-derived gradients of one unshifted sequence, one token at a time, in float64.

    With z = W h + b, u = scale * z, v = softcap * tanh(u / softcap), p = softmax(v): the gradient of
    -w log p_y with respect to v is w (p - e_y); the chain rule does the rest.

    Args:
        hidden: Shape (T, H).
        weight: Shape (V, H).
        labels: Shape (T,), already the target of each position.
        token_weight: (probabilities (V,), target) -> weight, held constant.
        bias: Shape (V,).
        num_items: Divisor; None for the number of kept labels.
        ignore_index: Label without loss.
        token_scale: Shape (T,), factor of each token's loss.
        logit_scale: Factor of the logits.
        logit_softcap: Bound of the logits, applied after the factor.
    """
    hidden, weight = hidden.detach().double(), weight.detach().double()
    bias = torch.zeros(weight.shape[0], dtype=torch.float64) if bias is None else bias.detach().double()
    kept = [t for t, label in enumerate(labels.tolist()) if label != ignore_index]
    divisor = float(num_items) if num_items is not None else float(max(len(kept), 1))
    loss = torch.zeros((), dtype=torch.float64)
    grads = (torch.zeros_like(hidden), torch.zeros_like(weight), torch.zeros_like(bias))
    for t in kept:
        target = int(labels[t])
        logits = (weight @ hidden[t] + bias) * logit_scale
        slope = torch.full_like(logits, logit_scale)
        if logit_softcap is not None:
            slope = slope * (1 - torch.tanh(logits / logit_softcap) ** 2)
            logits = logit_softcap * torch.tanh(logits / logit_softcap)
        log_probs = logits - torch.logsumexp(logits, dim=0)
        factor = token_weight(log_probs.exp(), target) / divisor
        if token_scale is not None:
            factor *= float(token_scale[t])
        loss = loss - factor * log_probs[target]
        grad_logits = log_probs.exp()
        grad_logits[target] -= 1
        grad_logits = factor * grad_logits * slope
        grads[0][t] += weight.T @ grad_logits
        grads[1].add_(torch.outer(grad_logits, hidden[t]))
        grads[2].add_(grad_logits)
    return ReferenceOutput(loss, *grads)
