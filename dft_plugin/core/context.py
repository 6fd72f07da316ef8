"""Facts about tokens that a loss call may be given besides their labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dft_plugin.core.objective import Objective, SequenceNll, TokenInputs
from dft_plugin.core.reduction import DeviceCheck, KeptTokens, keep_tokens
from dft_plugin.core.row_softmax import OPTIONAL_STATISTICS, RowStatistics
from dft_plugin.errors import InputError


@dataclass(frozen=True)
class TokenContext:
    """Sources of tokens and a frozen reference's values for them; all optional.

    Attributes:
        ref_logps: log p of each label under the reference, float, shape (..., T), aligned with the labels, in nats.
        segments: Any number that differs between neighbouring sequences of a packed row, int64, shape (..., T),
            aligned with the labels. None: each row (the last dimension) is one sequence.
        routes: Key of each label's data source, int64, shape (..., T), aligned with the labels.
        ref_hidden: The reference's hidden states for the same head, shape (..., T, H); for `linear_loss`.
        ref_logits: The reference's logits, shape (..., T, V); for `logits_loss`.
        mean_weight: What `renormalise: mean_one` divides by; None for the mean weight of the call.
        sequence_nll: What `talr` and `cadft` compare with; None for the sequences of the call.
        checks: What else must hold of the tokens; looked at when the loss is computed.
    """

    ref_logps: Tensor | None = None
    segments: Tensor | None = None
    routes: Tensor | None = None
    ref_hidden: Tensor | None = None
    ref_logits: Tensor | None = None
    mean_weight: float | None = None
    sequence_nll: SequenceNll | None = None
    checks: tuple[DeviceCheck, ...] = ()


class KeptContext(NamedTuple):
    """A context at the kept tokens, shapes (N,)."""

    targets: Tensor
    ref_logps: Tensor | None
    segments: Tensor | None
    num_segments: int
    routes: Tensor | None
    mean_weight: float | None
    sequence_nll: SequenceNll | None

    def inputs(self, statistics: RowStatistics, rows: slice | None = None) -> TokenInputs:
        """Return the objective's inputs of all tokens or of `rows`; `statistics` are of those."""

        def at(values: Tensor | None) -> Tensor | None:
            return values if values is None or rows is None else values[rows]

        return TokenInputs(
            token_logps=-statistics.nll,
            targets=self.targets if rows is None else self.targets[rows],
            ref_logps=at(self.ref_logps),
            segments=at(self.segments),
            num_segments=self.num_segments,
            routes=at(self.routes),
            mean_weight=self.mean_weight,
            sequence_nll=self.sequence_nll,
            **{name: getattr(statistics, name) for name in OPTIONAL_STATISTICS},
        )


def kept_tokens(
    labels: Tensor,
    context: TokenContext | None,
    objective: Objective,
    *,
    shift: bool,
    ignore_index: int,
    vocab_size: int,
    num_items_in_batch: Tensor | int | float | None,
) -> KeptTokens:
    """`keep_tokens` with the sequences that `objective` needs and everything that must hold of the context.

    Raises:
        InputError: as `keep_tokens`; a token from a data source that `objective` has no rule for.
    """
    context = context or TokenContext()
    segments = None
    if needs_segments(objective, context):
        given = context.segments
        segments = torch.zeros_like(labels, dtype=torch.long) if given is None else given.detach().to(labels.device)
        _require_shape(segments, labels, "segments")
    checks = list(context.checks)
    if objective.known_routes is not None and context.routes is not None:
        routes = context.routes.detach().to(labels.device)
        _require_shape(routes, labels, "routes")
        checks.append(_unknown_routes(routes, labels != ignore_index, objective.known_routes))
    return keep_tokens(
        labels,
        shift=shift,
        ignore_index=ignore_index,
        vocab_size=vocab_size,
        num_items_in_batch=num_items_in_batch,
        segments=segments,
        checks=checks,
    )


def needs_segments(objective: Objective, context: TokenContext | None) -> bool:
    """Return True where the call must know which sequence each token belongs to."""
    return "segments" in objective.needs or _compares_sequences(objective, context)


def _require_shape(values: Tensor, labels: Tensor, name: str) -> None:
    if values.shape != labels.shape:
        raise InputError(
            f"{name} has shape {tuple(values.shape)}, the labels {tuple(labels.shape)}; they must be equal."
        )


def _unknown_routes(routes: Tensor, is_kept: Tensor, known: frozenset[int]) -> DeviceCheck:
    is_unknown = torch.ones_like(routes, dtype=torch.bool)
    for key in known:
        is_unknown &= routes != key

    def error() -> InputError:
        keys = sorted(set(routes[is_unknown & is_kept].tolist()))[:5]
        return InputError(
            f"tokens come from data sources (keys {keys}) without a rule; the data was tokenized for other "
            "rules. Tokenize it again, or add a rule for '*'."
        )

    return DeviceCheck(is_unknown, error)


def select_context(
    context: TokenContext | None, objective: Objective, kept: KeptTokens, dtype: torch.dtype
) -> KeptContext:
    """The parts of `context` that `objective` needs, at the kept tokens.

    Raises:
        InputError: one is missing.
    """
    context = context or TokenContext()
    device = kept.rows.device

    def select(name: str) -> Tensor:
        values = getattr(context, name)
        if values is None:
            raise InputError(
                f"objective {objective.name!r} needs {name}; pass context=TokenContext({name}=...), a tensor aligned "
                "with the labels."
            )
        return kept.select(values.detach().to(device), name)

    return KeptContext(
        targets=kept.targets,
        ref_logps=select("ref_logps").to(dtype) if "ref_logps" in objective.needs else None,
        segments=kept.segments,
        num_segments=kept.num_segments,
        routes=select("routes").long() if "routes" in objective.needs else None,
        mean_weight=context.mean_weight,
        sequence_nll=context.sequence_nll,
    )


def depends_on_all_tokens(objective: Objective, context: TokenContext | None) -> bool:
    """Return True where a token's weight depends on other tokens of the call, so that their nll must be known first."""
    needs = objective.needs
    has_mean = context is not None and context.mean_weight is not None
    return "segments" in needs or ("all_tokens" in needs and not has_mean) or _compares_sequences(objective, context)


def _compares_sequences(objective: Objective, context: TokenContext | None) -> bool:
    """Return True where the weights need a statistic of the call's own sequences."""
    is_given = context is not None and context.sequence_nll is not None
    return "sequence_nll" in objective.needs and not is_given
