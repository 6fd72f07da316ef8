"""The only place that shifts labels, masks, counts and normalises; and the only one that waits for the device.

What the host must know of a call (how many tokens are kept, whether the labels are in range, the divisor, how many
sequences there are, whether anything is wrong with what came along) is fetched in one transfer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        loss_mask: True where a token was kept, the shape of `token_nll`.
        plain_loss: What plain training would report for the same call, `sum token_scale * nll / num_items`;
            scalar, detached.
        token_entropy: Entropy over the vocabulary in nats, like `token_nll`; None unless the objective needed it.
        token_kl: KL(reference || model) in nats, like `token_nll`; None unless the objective has such a term.
        kept_columns: Share of the vocabulary in the gradient of the hidden states; None without `gradient_filter`.
    """

    loss: Tensor
    token_nll: Tensor
    token_weight: Tensor
    token_is_top: Tensor
    num_tokens: int
    loss_mask: Tensor
    plain_loss: Tensor
    token_entropy: Tensor | None = None
    token_kl: Tensor | None = None
    kept_columns: float | None = None


class DeviceCheck(NamedTuple):
    """A condition on the tokens of a call, looked at together with all others.

    Attributes:
        is_wrong: bool; a scalar, or of each label, shape (..., T), aligned with the labels: then kept ones count.
        error: Makes what to raise where it is.
    """

    is_wrong: Tensor
    error: Callable[[], Exception]


class KeptTokens(NamedTuple):
    """The positions that carry loss.

    Attributes:
        rows: Flat positions whose prediction is scored, int64, shape (N,): rows of `logits.view(-1, V)`.
        targets: Their next tokens, int64, shape (N,).
        loss_mask: Mask over the labels' own shape (..., T), True at `rows`.
        is_shifted: Whether position t predicts label t + 1.
        divisor: What the summed token losses are divided by.
        segments: Number of each kept token's sequence, from 0, int64, shape (N,); None where it was not asked for.
        num_segments: How many sequences have kept tokens.
    """

    rows: Tensor
    targets: Tensor
    loss_mask: Tensor
    is_shifted: bool
    divisor: float
    segments: Tensor | None = None
    num_segments: int = 0

    def select(self, values: Tensor, name: str) -> Tensor:
        """Values of the kept targets, shape (N,), from a tensor aligned with the labels (..., T)."""
        if values.shape != self.loss_mask.shape:
            raise InputError(
                f"{name} has shape {tuple(values.shape)}, the labels {tuple(self.loss_mask.shape)}; they must be equal."
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
        entropy: Tensor | None = None,
        kl: Tensor | None = None,
        kept_columns: float | None = None,
    ) -> LossOutput:
        """Per-token values (N,) spread over the shape of the labels after shifting.

        Args:
            loss: Scalar with a graph.
            nll: -log p of the kept targets, shape (N,).
            weight: The objective's weights, shape (N,).
            is_top: Whether no other token was likelier than the target, shape (N,).
            scale: The kept tokens' `token_scale`, shape (N,), or None.
            entropy: Entropy of each kept token, shape (N,), or None.
            kl: KL(reference || model) of each kept token, shape (N,), or None.
            kept_columns: Share of the vocabulary in the gradient of the hidden states, or None.
        """
        nll, weight = nll.detach(), weight.detach()
        return LossOutput(
            loss=loss,
            token_nll=self._spread(nll),
            token_weight=self._spread(weight),
            token_is_top=self._spread(is_top).bool(),
            num_tokens=self.rows.numel(),
            loss_mask=self._trim(self.loss_mask),
            plain_loss=(nll if scale is None else nll * scale).sum() / self.divisor,
            token_entropy=None if entropy is None else self._spread(entropy),
            token_kl=None if kl is None else self._spread(kl.detach()),
            kept_columns=kept_columns,
        )

    def _spread(self, values: Tensor) -> Tensor:
        flat = torch.zeros(self.loss_mask.numel(), dtype=torch.float32, device=self.loss_mask.device)
        flat[self.rows] = values.float()
        return self._trim(flat.view(self.loss_mask.shape))

    def _trim(self, values: Tensor) -> Tensor:
        return values[..., :-1] if self.is_shifted else values


def keep_tokens(
    labels: Tensor,
    *,
    shift: bool,
    ignore_index: int,
    vocab_size: int,
    num_items_in_batch: Tensor | int | float | None = None,
    segments: Tensor | None = None,
    checks: Sequence[DeviceCheck] = (),
) -> KeptTokens:
    """Positions that carry loss, with their targets.

    Args:
        labels: Integer token ids, shape (..., T); `ignore_index` where no loss is wanted.
        shift: True where labels are aligned with the inputs, so that position t predicts label t + 1;
            False where they were shifted already.
        ignore_index: The label that means "no loss here".
        vocab_size: Rows of the vocabulary projection.
        num_items_in_batch: Kept tokens of the whole optimiser step; None divides by those of this call. A global
            count makes micro-batches, ranks and packing add up to the same loss whatever the split.
        segments: Any number that differs between neighbouring sequences of a row, int64, shape (..., T), aligned with
            the labels; None where sequences need no number.
        checks: What else must hold.

    Raises:
        InputError: labels that are no ids; a count that is not one positive number although tokens were kept.
        LabelOutOfRangeError: a kept label outside [0, vocab_size).
    """
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise InputError(f"labels have dtype {labels.dtype}; integer token ids are accepted.")
    targets = _shift_left(labels, fill=ignore_index) if shift else labels
    kept = targets != ignore_index
    flat, is_kept = targets.reshape(-1), kept.reshape(-1)
    runs = None if segments is None else _runs(_shift_left(segments, fill=0) if shift else segments, is_kept)
    facts = [is_kept.sum(), *_bounds(flat, is_kept), *([] if runs is None else [runs.num_used])]
    flags = [_flag(check.is_wrong, kept, shift) for check in checks]
    divisor = _one_number(num_items_in_batch)
    if isinstance(divisor, Tensor):
        flags.append(divisor)
    count, low, high, *others = torch.stack([x.to(labels.device, torch.float64) for x in (*facts, *flags)]).tolist()
    if isinstance(divisor, Tensor):
        divisor = others.pop()
    num_segments = 0 if runs is None else int(others.pop(0))
    for check, is_wrong in zip(checks, others, strict=True):
        if is_wrong:
            raise check.error()
    if low < 0 or high >= vocab_size:
        raise LabelOutOfRangeError(
            f"labels span [{int(low)}, {int(high)}] but the vocabulary has {vocab_size} rows "
            f"(ignore_index={ignore_index}). Resize the embeddings to the tokenizer, or mask these labels."
        )
    if divisor is not None and count and not divisor > 0:
        raise InputError(f"num_items_in_batch={divisor:g} with {int(count)} kept tokens; it must be positive.")
    rows = torch.nonzero_static(is_kept, size=int(count)).squeeze(1)
    return KeptTokens(
        rows,
        flat.index_select(0, rows).long(),
        kept,
        shift,
        divisor if divisor is not None and count else max(count, 1.0),
        None if runs is None else runs.numbers.index_select(0, rows),
        num_segments,
    )


def _one_number(num_items_in_batch: Tensor | int | float | None) -> Tensor | float | None:
    """The count as a scalar, where it is on a device a tensor still.

    Raises:
        InputError: more than one value.
    """
    if not isinstance(num_items_in_batch, Tensor):
        return None if num_items_in_batch is None else float(num_items_in_batch)
    if num_items_in_batch.numel() != 1:
        raise InputError(
            f"num_items_in_batch has shape {tuple(num_items_in_batch.shape)}; one count for the whole batch is "
            "accepted. DataParallel passes several: launch one process per device with torchrun instead."
        )
    return num_items_in_batch.detach().reshape(())


def _bounds(targets: Tensor, is_kept: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest and highest kept target, 0 where none is kept."""
    if not targets.numel():
        return is_kept.sum(), is_kept.sum()
    low, high = torch.aminmax(targets.where(is_kept, 0))
    return low, high


def _flag(is_wrong: Tensor, kept: Tensor, is_shifted: bool) -> Tensor:
    if not is_wrong.dim():
        return is_wrong
    return ((_shift_left(is_wrong, fill=0) if is_shifted else is_wrong).to(kept.device) & kept).any()


class _Runs(NamedTuple):
    """Number of each position's sequence among those with kept tokens, (positions,), and how many these are."""

    numbers: Tensor
    num_used: Tensor


def _runs(segments: Tensor, is_kept: Tensor) -> _Runs:
    starts = torch.ones_like(segments, dtype=torch.bool)  # a row begins a sequence
    starts[..., 1:] = segments[..., 1:] != segments[..., :-1]
    runs = starts.reshape(-1).cumsum(0)
    is_used = runs.new_zeros(runs.numel() + 1).index_add_(0, runs, is_kept.long()) > 0
    return _Runs((is_used.cumsum(0) - 1).index_select(0, runs), is_used.sum())


def _shift_left(values: Tensor, *, fill: int) -> Tensor:
    """Values moved one position to the left; the last position becomes `fill`."""
    return torch.cat((values[..., 1:], torch.full_like(values[..., :1], fill)), dim=-1)
