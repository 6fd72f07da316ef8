"""Predictions of the model where the fused path makes no logits, for the accuracies that trainers log."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dft_plugin.core.reduction import LossOutput

NO_TOKEN = -1


def predicted_ids(output: LossOutput, labels: Tensor, *, is_shifted: bool = True) -> Tensor:
    """Ids as right as those of the logits' argmax: the target where it was the likeliest token, else `NO_TOKEN`.

    Args:
        output: The fused loss of the same forward.
        labels: Shape (B, T).
        is_shifted: Whether position t predicts label t + 1.

    Returns:
        Shape (B, T).
    """
    targets = labels[..., 1:] if is_shifted else labels
    predicted = torch.where(output.token_is_top, targets.to(output.token_is_top.device), NO_TOKEN)
    return torch.nn.functional.pad(predicted, (0, 1), value=NO_TOKEN) if is_shifted else predicted


class PredictedLogits(Tensor):
    """Stands where the logits were, shape (B, T, 2): sliced and asked for its argmax it is right, else it is NaN."""

    @classmethod
    def of(cls, output: LossOutput, labels: Tensor) -> PredictedLogits:
        """Make the stand-in for the logits of one fused forward; arguments as in `predicted_ids`."""
        ids = predicted_ids(output, labels).float()  # exact below 2 ** 24
        return torch.stack([ids, torch.full_like(ids, torch.nan)], dim=-1).as_subclass(cls)

    def argmax(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        """The predicted ids."""
        return self.as_subclass(Tensor)[..., 0].long()
