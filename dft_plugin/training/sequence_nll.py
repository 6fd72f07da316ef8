"""The batch statistic that `talr` and `cadft` compare with, from one optimiser step to the next."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dft_plugin.core.objective import NO_STEP_BEFORE, SequenceNll, sequence_nll
from dft_plugin.core.reduction import LossOutput

_KEYS = {"sequence_nll_median": "median", "sequence_nll_mean": "mean", "sequence_nll_std": "std"}


class StepSequences:
    """Mean nll of every sequence of the optimiser step before, over its micro-batches and all ranks.

    Attributes:
        value: Their statistics; `NO_STEP_BEFORE` in the first step.
    """

    def __init__(self) -> None:
        self.value = NO_STEP_BEFORE
        self._sums: list[Tensor] = []

    def add(self, output: LossOutput, segments: Tensor | None) -> None:
        """Count one micro-batch, without waiting for the device.

        Args:
            output: The loss call.
            segments: Number of the sequence within its row, from 0 to T, shape (..., T), aligned with the labels;
                None where each row is one sequence.
        """
        nll = output.token_nll.reshape(-1, output.token_nll.shape[-1]).double()
        kept = output.loss_mask.reshape(nll.shape).double()
        if segments is None:
            sequence = torch.zeros_like(nll, dtype=torch.int64)
        else:
            sequence = segments.reshape(nll.shape[0], -1)[:, -nll.shape[1] :].to(nll.device)  # shifted labels lack one
        shape = (nll.shape[0], nll.shape[1] + 2)
        sums = torch.stack([nll.new_zeros(shape).scatter_add_(1, sequence, values) for values in (nll, kept)])
        self._sums.append(sums.flatten(1))

    def end_step(self, device: torch.device | str) -> None:
        """Take the statistics of the step that ended, if it trained anything; every rank must call.

        Args:
            device: Where the process group's backend communicates.
        """
        sums = torch.cat(self._sums, 1).cpu() if self._sums else torch.zeros(2, 0, dtype=torch.float64)
        self._sums = []
        is_there = sums[1] > 0
        means = sums[0][is_there] / sums[1][is_there]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            means = _gathered(means, device)
        if means.numel():
            found = sequence_nll(means)
            self.value = SequenceNll(float(found.median), float(found.mean), float(found.std))

    def state(self) -> dict[str, float]:
        """Return the state for a checkpoint; empty before the first step has ended."""
        if self.value == NO_STEP_BEFORE:
            return {}
        return {key: float(getattr(self.value, name)) for key, name in _KEYS.items()}

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from the `state` of a checkpoint."""
        if _KEYS.keys() <= state.keys():
            self.value = SequenceNll(**{name: state[key] for key, name in _KEYS.items()})


def _gathered(means: Tensor, device: torch.device | str) -> Tensor:
    """`means` of all ranks, which may have different numbers of them, in the order of the ranks."""
    count = torch.tensor([means.numel()], device=device)
    torch.distributed.all_reduce(count, op=torch.distributed.ReduceOp.MAX)
    padded = torch.full((int(count),), torch.nan, dtype=torch.float64, device=device)
    padded[: means.numel()] = means.to(device)
    parts = [torch.empty_like(padded) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, padded)
    found = torch.cat(parts).cpu()
    return found[~found.isnan()]
