"""Statistics of the optimiser step before, which an objective compares with, and their way through checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from dft_plugin.core.context import TokenContext
from dft_plugin.core.reduction import LossOutput
from dft_plugin.training.mean_weight import MeanWeight
from dft_plugin.training.sequence_nll import StepSequences


class StepBefore:
    """The statistics of the step before that a run's objective asks for; nothing where it asks for none.

    Args:
        mean_weight: Whether the weights are renormalised by the step's mean weight.
        sequences: Whether a token's weight compares its sequence with the step's.
    """

    def __init__(self, *, mean_weight: bool, sequences: bool) -> None:
        self._mean_weight = MeanWeight() if mean_weight else None
        self._sequences = StepSequences() if sequences else None

    def known_to(self, context: TokenContext) -> TokenContext:
        """Return `context` with the statistics."""
        return replace(
            context,
            mean_weight=None if self._mean_weight is None else self._mean_weight.value,
            sequence_nll=None if self._sequences is None else self._sequences.value,
        )

    def add(self, output: LossOutput, segments: Tensor | None) -> None:
        """Count one micro-batch of training, without waiting for the device.

        Args:
            output: The loss call.
            segments: See `StepSequences.add`.
        """
        if self._mean_weight is not None:
            self._mean_weight.add(output)
        if self._sequences is not None:
            self._sequences.add(output, segments)

    def end_step(self, device: torch.device | str) -> None:
        """An optimiser step is done; every rank must call.

        Args:
            device: Where the process group's backend communicates.
        """
        if self._mean_weight is not None:
            self._mean_weight.end_step(device)
        if self._sequences is not None:
            self._sequences.end_step(device)

    def state(self) -> dict[str, float]:
        """Return the state with which a resumed run goes on as if it had not stopped."""
        mean_weight = {} if self._mean_weight is None else {"mean_weight": self._mean_weight.value}
        return mean_weight if self._sequences is None else {**mean_weight, **self._sequences.state()}

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from the `state` of a checkpoint."""
        if self._mean_weight is not None and "mean_weight" in state:
            self._mean_weight.value = state["mean_weight"]
        if self._sequences is not None:
            self._sequences.restore(state)
