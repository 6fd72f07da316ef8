"""The mean weight that `renormalise: mean_one` divides by, from one optimiser step to the next."""

from __future__ import annotations

import torch
from torch import Tensor

from dft_plugin.core.reduction import LossOutput


class MeanWeight:
    """Mean weight of the optimiser step before, over its micro-batches and all ranks; 1 in the first step.

    Attributes:
        value: What `renormalise: mean_one` divides by in this step.
    """

    def __init__(self) -> None:
        self.value = 1.0
        self._sums: Tensor | None = None

    def add(self, output: LossOutput) -> None:
        """Count one micro-batch; its weights are already divided by `value`."""
        sums = torch.stack([output.token_weight.double().sum() * self.value, output.loss_mask.double().sum()])
        self._sums = sums if self._sums is None else self._sums + sums

    def end_step(self, device: torch.device | str) -> None:
        """Take the mean of the step that ended, if there was one; every rank must call.

        Args:
            device: Where the process group's backend communicates.
        """
        sums = torch.zeros(2, dtype=torch.float64) if self._sums is None else self._sums
        self._sums = None
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            sums = sums.to(device)
            torch.distributed.all_reduce(sums)
        total, count = sums.tolist()
        if total > 0:
            self.value = total / count
