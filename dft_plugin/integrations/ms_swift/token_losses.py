"""Values that ms-swift's trainer reads from the logits besides the loss, where the fused path makes none.

Around our loss the trainer computes per-token losses (channel losses, sequence parallelism) and the accuracy of
the predictions. On the fused path `outputs.logits` is the scalar loss; here both come from its `LossOutput`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from swift.trainers import seq2seq_trainer
from torch import Tensor

from dft_plugin.core.reduction import LossOutput
from dft_plugin.integrations.predictions import predicted_ids
from dft_plugin.patching import Patches
from dft_plugin.training.trainer_loss import TrainerLoss


class Predictions:
    """Stands where the logits were, for the trainer's one use of them: `logits.argmax(dim=-1)`.

    Args:
        output: The fused loss of the same forward.
        labels: Shape (B, T).
        is_shifted: Whether position t predicts label t + 1.
    """

    def __init__(self, output: LossOutput, labels: Tensor, *, is_shifted: bool) -> None:
        self._predicted = predicted_ids(output, labels, is_shifted=is_shifted)

    def argmax(self, dim: int) -> Tensor:
        """The predicted token ids, shape (B, T)."""
        return self._predicted


@contextmanager
def token_losses(loss: TrainerLoss) -> Iterator[None]:
    """While open, the trainer's per-token cross-entropies come from the fused output where there is one."""
    patches = Patches("ms-swift")
    patches.replace(seq2seq_trainer, "per_token_loss_func", lambda original: _from_fused(original, loss))
    patches.replace(seq2seq_trainer, "per_token_loss_func_sp", lambda original: _from_fused(original, loss))
    try:
        yield
    finally:
        patches.revert()


def _from_fused(original: Any, loss: TrainerLoss) -> Any:
    def per_token_loss(outputs: Any, labels: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Cross-entropy of each position, shape (B * T,), 0 where ignored."""
        fused = loss.fused_output
        if fused is None:
            return original(outputs, labels, *args, **kwargs)
        nll = fused.token_nll
        missing = labels.shape[-1] - nll.shape[-1]  # the last position predicts nothing where labels were shifted
        return torch.nn.functional.pad(nll, (0, missing)).view(-1)

    return per_token_loss
