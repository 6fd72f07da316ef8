"""The only place that shifts labels, masks, counts and normalises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dft_plugin.errors import InputError, LabelOutOfRangeError


@dataclass(frozen=True)
class LossOutput:
    """Result of one loss call.

    Attributes:
        loss: Scalar with a graph: sum over kept tokens of `token_scale * weight * nll / num_items`.
        token_nll: -log p of each target, float32, detached, the shape of the labels after shifting;
            0 where ignored.
        token_weight: The objective's weight w_t (before `token_scale`), same shape and dtype; 0 where ignored.
        token_is_top: Whether no other token was likelier than the target, bool, same shape; False where ignored.
        num_tokens: Number of kept tokens in this call.
        kept: True where a token was kept, the shape of `token_nll`.
        plain_loss: What plain training would report for the same call, `sum token_scale * nll / num_items`;
            scalar, detached.
        token_entropy: Entropy over the vocabulary in nats, like `token_nll`; None unless the objective needed it.
        token_kl: KL(reference || model) in nats, like `token_nll`; None unless the objective has such a term.
    """

    loss: Tensor
    token_nll: Tensor
    token_weight: Tensor
    token_is_top: Tensor
    num_tokens: int
    kept: Tensor
    plain_loss: Tensor
    token_entropy: Tensor | None = None
    token_kl: Tensor | None = None


class KeptTokens(NamedTuple):
    """The positions that carry loss.

    Attributes:
        rows: Flat positions whose prediction is scored, int64, shape (N,): rows of `logits.view(-1, V)`.
        targets: Their next tokens, int64, shape (N,).
        kept: Mask over the labels' own shape (..., T), True at `rows`.
        is_shifted: Whether position t predicts label t + 1.
    """

    rows: Tensor
    targets: Tensor
    kept: Tensor
    is_shifted: bool

    def select(self, values: Tensor, name: str) -> Tensor:
        """Values of the kept targets, shape (N,), from a tensor aligned with the labels (..., T)."""
        if values.shape != self.kept.shape:
            raise InputError(
                f"{name} has shape {tuple(values.shape)}, the labels {tuple(self.kept.shape)}; they must be equal."
            )
        shifted = _shift_left(values, fill=0) if self.is_shifted else values
        return shifted.reshape(-1).index_select(0, self.rows)

    def output(
        self,
        loss: Tensor,
        nll: Tensor,
        weight: Tensor,
        *,
        is_top: Tensor,
        scale: Tensor | None,
        divisor: Tensor | float,
        entropy: Tensor | None = None,
        kl: Tensor | None = None,
    ) -> LossOutput:
        """Per-token values (N,) spread over the shape of the labels after shifting.

        Args:
            loss: Scalar with a graph.
            nll: -log p of the kept targets, shape (N,).
            weight: The objective's weights, shape (N,).
            is_top: Whether no other token was likelier than the target, shape (N,).
            scale: The kept tokens' `token_scale`, shape (N,), or None.
            divisor: What `loss` was divided by.
            entropy: Entropy of each kept token, shape (N,), or None.
            kl: KL(reference || model) of each kept token, shape (N,), or None.
        """
        nll, weight = nll.detach(), weight.detach()
        return LossOutput(
            loss=loss,
            token_nll=self._spread(nll),
            token_weight=self._spread(weight),
            token_is_top=self._spread(is_top).bool(),
            num_tokens=self.rows.numel(),
            kept=self._trim(self.kept),
            plain_loss=(nll if scale is None else nll * scale).sum() / divisor,
            token_entropy=None if entropy is None else self._spread(entropy),
            token_kl=None if kl is None else self._spread(kl.detach()),
        )

    def _spread(self, values: Tensor) -> Tensor:
        flat = torch.zeros(self.kept.numel(), dtype=torch.float32, device=self.kept.device)
        flat[self.rows] = values.float()
        return self._trim(flat.view(self.kept.shape))

    def _trim(self, values: Tensor) -> Tensor:
        return values[..., :-1] if self.is_shifted else values


def keep_tokens(labels: Tensor, *, shift: bool, ignore_index: int, vocab_size: int) -> KeptTokens:
    """Positions that carry loss, with their targets.

    Args:
        labels: Integer token ids, shape (..., T); `ignore_index` where no loss is wanted.
        shift: True where labels are aligned with the inputs, so that position t predicts label t + 1;
            False where they were shifted already.
        ignore_index: The label that means "no loss here".
        vocab_size: Rows of the vocabulary projection.

    Raises:
        LabelOutOfRangeError: a kept label outside [0, vocab_size).
    """
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise InputError(f"labels have dtype {labels.dtype}; integer token ids are accepted.")
    targets = _shift_left(labels, fill=ignore_index) if shift else labels
    kept = targets != ignore_index
    rows = kept.reshape(-1).nonzero().squeeze(1)
    targets = targets.reshape(-1).index_select(0, rows).long()
    if targets.numel():
        low, high = (int(bound) for bound in torch.aminmax(targets))
        if low < 0 or high >= vocab_size:
            raise LabelOutOfRangeError(
                f"labels span [{low}, {high}] but the vocabulary has {vocab_size} rows (ignore_index={ignore_index}). "
                "Resize the embeddings to the tokenizer, or mask these labels."
            )
    return KeptTokens(rows, targets, kept, shift)


def denominator(num_items_in_batch: Tensor | int | float | None, num_kept: int) -> Tensor | float:
    """What the summed token losses are divided by: `num_items_in_batch`, else the kept tokens of this call.

    A global count makes micro-batches, ranks and packing add up to the same loss whatever the split.

    Raises:
        InputError: more than one value, or not positive although tokens were kept.
    """
    if num_items_in_batch is None:
        return float(max(num_kept, 1))
    if isinstance(num_items_in_batch, Tensor):
        if num_items_in_batch.numel() != 1:
            raise InputError(
                f"num_items_in_batch has shape {tuple(num_items_in_batch.shape)}; one count for the whole batch is "
                "accepted. DataParallel passes several: launch one process per device with torchrun instead."
            )
        num_items_in_batch = num_items_in_batch.reshape(())
    if num_kept and num_items_in_batch <= 0:
        raise InputError(f"num_items_in_batch={num_items_in_batch} with {num_kept} kept tokens; it must be positive.")
    return num_items_in_batch if num_kept else 1.0


def _shift_left(values: Tensor, *, fill: int) -> Tensor:
    """Values moved one position to the left; the last position becomes `fill`."""
    return torch.cat((values[..., 1:], torch.full_like(values[..., :1], fill)), dim=-1)
