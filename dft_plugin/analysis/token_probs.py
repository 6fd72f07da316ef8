"""Teacher-forced token probabilities and their histogram (DFT paper, Figure 2).

The same texts go through each checkpoint; of every kept target token the model's probability is taken.
Counts are kept in 1,000 bins, so that shares are the same however the histogram is later drawn.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dft_plugin.analysis.target_logps import TargetScorer
from dft_plugin.errors import InputError

NUM_FINE_BINS = 1000
LOW, HIGH = 0.05, 0.95
_INNER_EDGES = torch.arange(1, NUM_FINE_BINS, dtype=torch.float64) / NUM_FINE_BINS


@dataclass(frozen=True)
class TokenProbs:
    """Probabilities of the target tokens, as counts in 1,000 equal bins of [0, 1].

    Attributes:
        counts: int64, shape (1000,).
        sum_nll: Sum of -log p in nats.
        sum_p: Sum of p.
    """

    counts: NDArray[np.int64]
    sum_nll: float
    sum_p: float

    @property
    def num_tokens(self) -> int:
        """Kept target tokens."""
        return int(self.counts.sum())

    @property
    def share_low(self) -> float:
        """Share of tokens with p < 0.05."""
        return float(self.counts[: round(LOW * NUM_FINE_BINS)].sum()) / self.num_tokens

    @property
    def share_high(self) -> float:
        """Share of tokens with p >= 0.95."""
        return float(self.counts[round(HIGH * NUM_FINE_BINS) :].sum()) / self.num_tokens

    def histogram(self, num_bins: int = 20) -> list[int]:
        """Counts in `num_bins` equal bins, a divisor of 1,000."""
        if NUM_FINE_BINS % num_bins:
            raise ValueError(f"num_bins={num_bins}; a divisor of {NUM_FINE_BINS} is needed.")
        return [int(count) for count in self.counts.reshape(num_bins, -1).sum(axis=1)]

    def record(self) -> dict[str, Any]:
        """For reports: 20 bins and the summary shares."""
        return {
            "histogram": self.histogram(),
            "num_tokens": self.num_tokens,
            "share_p_below_0.05": self.share_low,
            "share_p_from_0.95": self.share_high,
            "nll": self.sum_nll / self.num_tokens,
            "mean_p": self.sum_p / self.num_tokens,
        }


def count_fine(probs: Tensor) -> NDArray[np.int64]:
    """Counts in 1,000 bins: bin i is i/1000 <= p < (i+1)/1000 exactly, and the last one holds p = 1 too.

    Args:
        probs: float64, shape (N,), each in [0, 1].
    """
    # p * 1000 would round some p below an edge onto it
    bins = torch.searchsorted(_INNER_EDGES, probs, right=True)
    return torch.bincount(bins, minlength=NUM_FINE_BINS).numpy(force=True)


def token_probs(model: torch.nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> TokenProbs:
    """Probabilities a causal language model gives to the targets of `batches`.

    Args:
        model: A transformers model, in evaluation mode.
        batches: Pairs (input_ids, labels), both (B, T), right-padded; labels are -100 where ignored and not
            shifted.

    Raises:
        InputError: no target token at all, or what `TargetScorer` refuses.
    """
    score = TargetScorer(model)
    counts = np.zeros(NUM_FINE_BINS, dtype=np.int64)
    sum_nll = sum_p = 0.0
    for input_ids, labels in batches:
        logps = score({"input_ids": input_ids}, labels)[(labels[:, 1:] != -100).cpu()]
        probs = logps.exp()
        counts += count_fine(probs)
        sum_nll -= float(logps.sum())
        sum_p += float(probs.sum())
    if not counts.sum():
        raise InputError("no target token in any batch; all labels are -100. Look at the prompts and the length limit.")
    return TokenProbs(counts, sum_nll, sum_p)
