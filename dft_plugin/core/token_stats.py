"""Readable statistics of a token-weighted loss, as sums that add up over micro-batches and ranks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dft_plugin.core.reduction import LossOutput


@dataclass(frozen=True)
class TokenStats:
    """Sums over kept tokens.

    Attributes:
        sums: float64, shape (7,): tokens, nll, p, weight, weight squared, weight times nll, targets that were on top.
    """

    sums: Tensor

    @classmethod
    def of(cls, output: LossOutput) -> TokenStats:
        """Statistics of one loss call, on its device, without waiting for it."""
        kept, nll, weight = (x.double() for x in (output.kept, output.token_nll, output.token_weight))
        columns = (kept, nll, (-nll).exp() * kept, weight, weight * weight, weight * nll, output.token_is_top.double())
        return cls(torch.stack([column.sum() for column in columns]))

    @classmethod
    def zero(cls) -> TokenStats:
        """No tokens yet."""
        return cls(torch.zeros(7, dtype=torch.float64))

    def __add__(self, other: TokenStats) -> TokenStats:
        return TokenStats(self.sums + other.sums)

    def means(self) -> dict[str, float]:
        """Token means; empty where no token was kept.

        Returns:
            `nll`: true mean negative log-likelihood in nats (the cross-entropy of plain training).
            `one_minus_p`: 1 - mean(p), in [0, 1]; its gradient is that of DFT.
            `token_accuracy`: share of targets that no other token beat.
            `objective`: mean of weight times nll, what the optimiser sees.
            `effective_tokens`: (sum w)^2 / (N sum w^2), the share of tokens that carry the gradient
                (Kish's effective sample size over N); 1 for plain training.
        """
        num_tokens, nll, p, weight, weight_squared, objective, top = self.sums.tolist()
        if not num_tokens:
            return {}
        return {
            "nll": nll / num_tokens,
            "one_minus_p": 1.0 - p / num_tokens,
            "token_accuracy": top / num_tokens,
            "objective": objective / num_tokens,
            "effective_tokens": weight * weight / (num_tokens * weight_squared) if weight_squared else 0.0,
        }
