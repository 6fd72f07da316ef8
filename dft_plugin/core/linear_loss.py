"""Any objective of `OBJECTIVES` from hidden states and a vocabulary projection, without the logits in memory."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from dft_plugin.core.chunk_gradients import MAX_LOW_PRECISION_SUMS
from dft_plugin.core.chunked_linear import CHUNK_UNIT, LinearCall, Weigh, chunked_linear_loss
from dft_plugin.core.context import KeptContext, TokenContext, depends_on_all_tokens, kept_tokens, select_context
from dft_plugin.core.objectives import Objective, as_objective
from dft_plugin.core.reduction import LossOutput
from dft_plugin.core.row_softmax import RowStatistics
from dft_plugin.errors import InputError

_DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)


def linear_loss(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    bias: Tensor | None = None,
    objective: str | Objective = "dft",
    num_items_in_batch: Tensor | int | None = None,
    shift: bool = True,
    ignore_index: int = -100,
    token_scale: Tensor | None = None,
    logit_scale: float = 1.0,
    logit_softcap: float | None = None,
    chunk_size: int | None = None,
    context: TokenContext | None = None,
    gradient_filter: float | None = None,
) -> LossOutput:
    """Token-weighted cross-entropy, `sum_t -sg(w_t) log p_t / num_items` (DFT: arXiv 2508.05629, Eq. 9).

    The value and gradients of
    `logits_loss(softcap(logit_scale * (hidden @ weight.T + bias)), labels, ...)`, with three matrix products
    over the kept tokens (two where `weight` needs no gradient, one where nothing does) and memory for one
    chunk of logits. Softmax statistics, weights and the target's logit are float32 (float64 for float64
    inputs). Weights carry no gradient. Gradients are made in forward, so the loss can be differentiated once,
    not twice. With nothing kept the loss is zero, connected to the graph. Under autocast the matrix products
    run in its dtype and each gradient has its input's.

    Args:
        hidden: Last hidden states, shape (..., T, H), float32, bfloat16, float16 or float64.
        weight: Vocabulary projection (`lm_head.weight`), shape (V, H); the dtype of `hidden` outside autocast.
        labels: Token ids, shape (..., T); `ignore_index` where no loss is wanted.
        bias: Bias of the projection, shape (V,).
        objective: A name of `OBJECTIVES` or an `Objective`.
        num_items_in_batch: Kept tokens of the whole optimiser step, over micro-batches and ranks;
            None divides by the kept tokens of this call.
        shift: True where position t predicts label t + 1; False for labels shifted already.
        ignore_index: The label that means "no loss here".
        token_scale: Factor of each token's loss, shape (..., T), aligned with `labels`; not differentiated
            and not part of the normalisation.
        logit_scale: Factor of the logits.
        logit_softcap: c > 0 for logits c * tanh(logits / c), after the factor.
        chunk_size: Most rows of logits in memory at a time; None for a size that fits the head and the device.
            Changes results by rounding only.
        context: What some objectives need besides the labels: a reference's log-probabilities or hidden states,
            the bounds of packed sequences, the source of each token. Objectives that weigh whole sequences cost
            one more matrix product.
        gradient_filter: An approximation of the gradient of `hidden`, faster where most of the vocabulary is
            improbable (see `column_filter`): a column stays where its mass is above this multiple of the mean, 0.125
            for example. `weight` and `bias` keep their exact gradients. None for no filter. Waits for the device
            once in each chunk; a call with a divergence from a reference is not filtered.

    Returns:
        LossOutput; `.loss` in float32 (float64 for float64 inputs).

    Raises:
        InputError: shapes, dtypes, devices or numbers that do not fit.
        LabelOutOfRangeError: a kept label outside the vocabulary.
    """
    _check_tensors(hidden, weight, labels, bias)
    _check_numbers(logit_scale, logit_softcap, chunk_size, gradient_filter)
    dtype = _product_dtype(hidden, weight)
    objective = as_objective(objective)
    labels = labels.to(hidden.device)
    kept = kept_tokens(
        labels,
        context,
        objective,
        shift=shift,
        ignore_index=ignore_index,
        vocab_size=weight.shape[0],
        num_items_in_batch=num_items_in_batch,
    )
    scale = None
    if token_scale is not None:
        scale = kept.select(token_scale.detach().to(hidden.device), "token_scale").to(
            torch.promote_types(dtype, torch.float32)
        )
    is_training = torch.is_grad_enabled()
    needs_grad = (
        is_training and hidden.requires_grad,
        is_training and weight.requires_grad,
        is_training and bias is not None and bias.requires_grad,
    )

    at_kept = select_context(context, objective, kept, torch.promote_types(dtype, torch.float32))
    ref_hidden = None
    if "ref_logits" in objective.needs:
        ref_hidden = _require_ref_hidden(context, hidden)

    def weigh(chunk: slice, statistics: RowStatistics) -> tuple[Tensor, Tensor | None]:
        tokens = at_kept.inputs(statistics, chunk)
        return objective.weight(tokens), objective.kl_scale(tokens)

    call = LinearCall(
        kept=kept,
        weigh=weigh,
        token_scale=scale,
        logit_scale=float(logit_scale),
        logit_softcap=logit_softcap,
        chunk_size=chunk_size or _chunk_size(weight, kept.rows.numel(), is_head_trained=needs_grad[1]),
        dtype=dtype,
        needs_grad=needs_grad,
        wants=objective.needs,
        ref_hidden=ref_hidden,
        gradient_filter=gradient_filter,
    )
    if depends_on_all_tokens(objective, context):
        call = replace(call, weigh=_weigh_together(objective, at_kept, hidden, weight, bias, call))
    result = chunked_linear_loss(hidden, weight, bias, call)
    return kept.output(
        result.loss,
        result.statistics.nll,
        result.token_weight,
        is_top=result.statistics.is_top,
        scale=scale,
        entropy=result.statistics.entropy,
        kl=result.kl,
        kept_columns=result.kept_columns,
    )


def _weigh_together(
    objective: Objective,
    at_kept: KeptContext,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    call: LinearCall,
) -> Weigh:
    """The weights of all tokens, from a first pass over them without gradients."""

    def weigh_nothing(chunk: slice, statistics: RowStatistics) -> tuple[Tensor, Tensor | None]:
        return torch.zeros_like(statistics.nll), None

    nll_call = replace(call, weigh=weigh_nothing, needs_grad=(False, False, False), ref_hidden=None)
    with torch.no_grad():
        statistics = chunked_linear_loss(hidden, weight, bias, nll_call).statistics
    tokens = at_kept.inputs(statistics)
    weights, kl_scales = objective.weight(tokens), objective.kl_scale(tokens)
    return lambda chunk, _: (weights[chunk], None if kl_scales is None else kl_scales[chunk])


def _require_ref_hidden(context: TokenContext | None, hidden: Tensor) -> Tensor:
    ref_hidden = None if context is None else context.ref_hidden
    if ref_hidden is None or ref_hidden.shape != hidden.shape:
        found = "none" if ref_hidden is None else f"shape {tuple(ref_hidden.shape)}"
        raise InputError(
            f"the objective compares with a reference and got {found} of its hidden states; pass "
            f"context=TokenContext(ref_hidden=...) of shape {tuple(hidden.shape)}."
        )
    return ref_hidden.detach()


def default_chunk_size(weight: Tensor, *, is_head_trained: bool) -> int:
    """Rows of logits at a time for a projection of shape (V, H).

    Each chunk reads and writes the whole gradient of a trained head, a cost that fades as 1 / rows. On a CPU,
    H / 2 rows keep it to a few percent and the logits to half the size of that gradient. A GPU computes so much
    faster than it moves memory that it needs about 2048 rows. A frozen head only has to fill the device.
    """
    if weight.device.type == "cpu":
        half = weight.shape[1] // 2 // CHUNK_UNIT * CHUNK_UNIT
        return min(max(half, 128), 1024) if is_head_trained else 256
    return 2048 if is_head_trained else 512


def _chunk_size(weight: Tensor, num_rows: int, *, is_head_trained: bool) -> int:
    """The default, or more where it would make too many chunks for a low-precision sum of a trained head's gradient."""
    default = default_chunk_size(weight, is_head_trained=is_head_trained)
    least = -(-num_rows // (MAX_LOW_PRECISION_SUMS * CHUNK_UNIT)) * CHUNK_UNIT
    return max(default, least) if is_head_trained else default


def _product_dtype(hidden: Tensor, weight: Tensor) -> torch.dtype:
    """Dtype of the matrix products: autocast's where it is on (it leaves float64 alone), else the inputs'."""
    if torch.is_autocast_enabled(hidden.device.type) and torch.float64 not in (hidden.dtype, weight.dtype):
        return torch.get_autocast_dtype(hidden.device.type)
    if hidden.dtype != weight.dtype:
        raise InputError(
            f"hidden is {hidden.dtype}, weight {weight.dtype}; outside autocast they must be equal. "
            "Convert one, or call under torch.autocast."
        )
    return hidden.dtype


def _check_tensors(hidden: Tensor, weight: Tensor, labels: Tensor, bias: Tensor | None) -> None:
    for name, tensor in {"hidden": hidden, "weight": weight, "bias": bias}.items():
        if tensor is None:
            continue
        if tensor.is_meta or any(cls.__name__ == "DTensor" for cls in type(tensor).__mro__):
            raise InputError(
                f"{name} is a {'meta tensor' if tensor.is_meta else 'DTensor'}; a tensor with its values on this "
                "device is accepted. Gather it first (`full_tensor()`, or inside the module that owns it)."
            )
        if tensor.dtype not in _DTYPES:
            raise InputError(f"{name} has dtype {tensor.dtype}; accepted: {', '.join(map(str, _DTYPES))}.")
        if tensor.device != hidden.device:
            raise InputError(f"{name} is on {tensor.device}, hidden on {hidden.device}; one device is accepted.")
    if hidden.dim() < 2 or hidden.shape[:-1] != labels.shape:
        raise InputError(
            f"hidden {tuple(hidden.shape)} and labels {tuple(labels.shape)}: (..., T, H) and (..., T) are accepted."
        )
    if weight.dim() != 2 or weight.shape[1] != hidden.shape[-1]:
        raise InputError(
            f"weight has shape {tuple(weight.shape)}, hidden {tuple(hidden.shape)}; (V, {hidden.shape[-1]}) is "
            "accepted. An empty weight is a parameter sharded by ZeRO-3 or FSDP: call inside its module's forward."
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise InputError(f"bias has shape {tuple(bias.shape)}; ({weight.shape[0]},) is accepted.")


def _check_numbers(
    logit_scale: float, logit_softcap: float | None, chunk_size: int | None, gradient_filter: float | None
) -> None:
    if isinstance(logit_scale, Tensor) or not math.isfinite(logit_scale):
        raise InputError(f"logit_scale={logit_scale!r}; a finite number is accepted (it is not differentiated).")
    if logit_softcap is not None and not (math.isfinite(logit_softcap) and logit_softcap > 0):
        raise InputError(f"logit_softcap={logit_softcap!r}; a positive number or None is accepted.")
    if chunk_size is not None and (not isinstance(chunk_size, int) or chunk_size < 1):
        raise InputError(f"chunk_size={chunk_size!r}; a whole number of at least 1, or None, is accepted.")
    if gradient_filter is not None and not 0 < gradient_filter < math.inf:
        raise InputError(f"gradient_filter={gradient_filter!r}; a positive number, or None for no filter, is accepted.")
