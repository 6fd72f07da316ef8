"""Any objective on logits that a model has already made: exact, portable, and the fallback of the fused path."""

from __future__ import annotations

import torch
from torch import Tensor

from dft_plugin.core.context import TokenContext, kept_tokens, select_context
from dft_plugin.core.objectives import Objective, as_objective
from dft_plugin.core.reduction import KeptTokens, LossOutput
from dft_plugin.core.row_softmax import RowStatistics, top_entropy
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
    context: TokenContext | None = None,
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
        context: What some objectives need besides the labels: a reference's log-probabilities or logits, the
            bounds of packed sequences, the source of each token.

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
    kept = kept_tokens(
        labels,
        context,
        objective,
        shift=shift,
        ignore_index=ignore_index,
        vocab_size=logits.shape[-1],
        num_items_in_batch=num_items_in_batch,
    )
    rows = logits.reshape(-1, logits.shape[-1]).index_select(0, kept.rows)
    if rows.dtype != torch.float64:
        rows = rows.float()  # bf16 keeps 8 significant bits; log-probs would be off by about 1e-2
    nll = torch.nn.functional.cross_entropy(rows, kept.targets, reduction="none")
    target_logits = rows.detach().gather(1, kept.targets[:, None]).squeeze(1)
    statistics = RowStatistics(
        nll=nll.detach(),
        is_top=target_logits >= rows.detach().amax(1) if rows.shape[0] else kept.targets.bool(),
        **_optional_statistics(rows.detach(), objective.needs),
    )
    tokens = select_context(context, objective, kept, rows.dtype).inputs(statistics)
    weight = objective.weight(tokens)
    scale = None if token_scale is None else kept.select(token_scale.detach(), "token_scale").to(weight)
    token_loss = weight * nll
    kl, kl_scale = None, objective.kl_scale(tokens)
    if kl_scale is not None:
        kl = _divergence(rows, _reference_rows(context, logits, kept))
        token_loss = token_loss + kl_scale * kl
    loss = (token_loss if scale is None else token_loss * scale).sum() / kept.divisor
    return kept.output(
        loss,
        nll,
        weight,
        is_top=statistics.is_top,
        scale=scale,
        entropy=statistics.entropy,
        kl=kl,
    )


def _optional_statistics(rows: Tensor, needs: frozenset[str]) -> dict[str, Tensor]:
    found = {}
    if "entropy" in needs:
        # entr(0) is 0, where -p log p of a token masked by a logit of -inf would be NaN
        found["entropy"] = torch.special.entr(rows.softmax(-1)).sum(-1)
    if "top_entropy" in needs:
        found["top_entropy"] = top_entropy(rows)
    if "concentration" in needs:
        found["concentration"] = rows.softmax(-1).square().sum(-1)
    return found


def _reference_rows(context: TokenContext | None, logits: Tensor, kept: KeptTokens) -> Tensor:
    ref_logits = None if context is None else context.ref_logits
    if ref_logits is None or ref_logits.shape != logits.shape:
        found = "none" if ref_logits is None else f"shape {tuple(ref_logits.shape)}"
        raise InputError(
            f"the objective compares with a reference and got {found} of its logits; pass "
            f"context=TokenContext(ref_logits=...) of shape {tuple(logits.shape)}."
        )
    return ref_logits.detach().reshape(-1, logits.shape[-1]).index_select(0, kept.rows)


def _divergence(rows: Tensor, ref_rows: Tensor) -> Tensor:
    """KL(reference || model) of each row, shape (N,), differentiable in the model's."""
    log_q = ref_rows.to(rows.dtype).log_softmax(-1)
    return torch.nn.functional.kl_div(rows.log_softmax(-1), log_q, reduction="none", log_target=True).sum(-1)
