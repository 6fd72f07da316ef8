"""Any objective on logits that a model has already made: exact, portable, and the fallback of the fused path."""

from __future__ import annotations

import torch
from torch import Tensor

from dft_plugin.core.objectives import Objective, TokenInputs, as_objective
from dft_plugin.core.reduction import LossOutput, denominator, keep_tokens
from dft_plugin.errors import InputError


def logits_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    objective: str | Objective = "dft",
    num_items_in_batch: Tensor | int | None = None,
    shift: bool = True,
    ignore_index: int = -100,
    token_scale: Tensor | None = None,
) -> LossOutput:
    """Token-weighted cross-entropy, `sum_t -sg(w_t) log p_t / num_items` (DFT: arXiv 2508.05629, Eq. 9).

    Softmax statistics and weights are computed in float32 (float64 for float64 logits), on the kept
    rows only. Weights carry no gradient. With nothing kept the loss is zero, connected to the graph.

    Args:
        logits: Shape (..., T, V), any floating dtype.
        labels: Token ids, shape (..., T); `ignore_index` where no loss is wanted.
        objective: A name of `OBJECTIVES` or an `Objective`.
        num_items_in_batch: Kept tokens of the whole optimiser step, over micro-batches and ranks;
            None divides by the kept tokens of this call.
        shift: True where position t predicts label t + 1; False for labels shifted already.
        ignore_index: The label that means "no loss here".
        token_scale: Factor of each token's loss, shape (..., T), aligned with `labels`; not differentiated
            and not part of the normalisation.

    Returns:
        LossOutput; `.loss` in float32 (float64 for float64 logits).

    Raises:
        InputError: shapes that do not fit.
        LabelOutOfRangeError: a kept label outside the vocabulary.
    """
    if logits.shape[:-1] != labels.shape:
        raise InputError(
            f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)}: leading dimensions must be equal."
        )
    objective = as_objective(objective)
    labels = labels.to(logits.device)
    kept = keep_tokens(labels, shift=shift, ignore_index=ignore_index, vocab_size=logits.shape[-1])
    divisor = denominator(num_items_in_batch, kept.rows.numel())
    rows = logits.reshape(-1, logits.shape[-1]).index_select(0, kept.rows)
    if rows.dtype != torch.float64:
        rows = rows.float()  # bf16 keeps 8 significant bits; log-probs would be off by about 1e-2
    nll = torch.nn.functional.cross_entropy(rows, kept.targets, reduction="none")
    entropy = None
    if "entropy" in objective.needs:
        # entr(0) is 0, where -p log p of a token masked by a logit of -inf would be NaN
        entropy = torch.special.entr(rows.detach().softmax(-1)).sum(-1)
    weight = objective.weight(TokenInputs(token_logps=-nll.detach(), entropy=entropy))
    scale = None if token_scale is None else kept.select(token_scale.detach()).to(weight)
    loss = ((weight if scale is None else weight * scale) * nll).sum() / divisor
    target_logits = rows.detach().gather(1, kept.targets[:, None]).squeeze(1)
    is_top = target_logits >= rows.detach().amax(1) if rows.shape[0] else kept.targets.bool()
    return kept.output(loss, nll, weight, is_top=is_top, scale=scale, divisor=divisor)
