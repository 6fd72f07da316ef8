"""What a loss call may be told about its tokens besides their labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dft_plugin.core.objective import Objective, TokenInputs
from dft_plugin.core.reduction import KeptTokens
from dft_plugin.core.row_softmax import OPTIONAL_STATISTICS, RowStatistics
from dft_plugin.errors import InputError


@dataclass(frozen=True)
class TokenContext:
    """Where tokens come from and what a frozen reference says of them; all optional.

    Attributes:
        ref_logps: log p of each label under the reference, float, shape (..., T), aligned with the labels, in nats.
        segments: Any number that differs between neighbouring sequences of a packed row, int64, shape (..., T),
            aligned with the labels. None: each row (the last dimension) is one sequence.
        routes: Key of each label's data source, int64, shape (..., T), aligned with the labels.
        ref_hidden: The reference's hidden states for the same head, shape (..., T, H); for `linear_loss`.
        ref_logits: The reference's logits, shape (..., T, V); for `logits_loss`.
        mean_weight: What `renormalise: mean_one` divides by; None for the mean weight of the call.
    """

    ref_logps: Tensor | None = None
    segments: Tensor | None = None
    routes: Tensor | None = None
    ref_hidden: Tensor | None = None
    ref_logits: Tensor | None = None
    mean_weight: float | None = None


class KeptContext(NamedTuple):
    """A context at the kept tokens, shapes (N,)."""

    targets: Tensor
    ref_logps: Tensor | None
    segments: Tensor | None
    num_segments: int
    routes: Tensor | None
    mean_weight: float | None

    def inputs(self, statistics: RowStatistics, rows: slice | None = None) -> TokenInputs:
        """What the objective looks at, of all tokens or of `rows`; `statistics` are of those."""

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
            **{name: getattr(statistics, name) for name in OPTIONAL_STATISTICS},
        )


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

    segments, num_segments = None, 0
    if "segments" in objective.needs:
        row_of = kept.rows // kept.kept.shape[-1]
        within = torch.zeros_like(row_of) if context.segments is None else select("segments").long()
        # numbers that neighbours do not share, made 0, 1, 2 ...
        keys, segments = torch.unique(torch.stack((row_of, within), 1), dim=0, return_inverse=True)
        num_segments = keys.shape[0]
    return KeptContext(
        targets=kept.targets,
        ref_logps=select("ref_logps").to(dtype) if "ref_logps" in objective.needs else None,
        segments=segments,
        num_segments=num_segments,
        routes=select("routes").long() if "routes" in objective.needs else None,
        mean_weight=context.mean_weight,
    )


def depends_on_all_tokens(objective: Objective, context: TokenContext | None) -> bool:
    """Whether the weight of a token depends on other tokens of the call, so that their nll must be known first."""
    needs = objective.needs
    has_mean = context is not None and context.mean_weight is not None
    return "segments" in needs or ("all_tokens" in needs and not has_mean)
