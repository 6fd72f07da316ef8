"""Sums over the target tokens of one checkpoint; their size does not depend on the number of rows."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dft_plugin.analysis.target_classes import SUMS, TARGET_CLASSES, sums_by_class
from dft_plugin.analysis.token_probs import LOW, NUM_FINE_BINS, count_fine

CONFIDENCE = 0.95
TOKEN_COLUMNS = ("count", "sum_p", "num_low")
"""Of each token id; low is p < 0.05."""
_ARRAYS = ("histogram", "classes", "tokens", "moments")

Values = NDArray[np.float64]


class ProbTally:
    """Sums over the targets under one checkpoint.

    Args:
        vocab_size: Rows of the table of token ids.

    Attributes:
        histogram: Counts in 1,000 bins of p, int64.
        classes: By class and column of `SUMS`.
        tokens: By token id and `TOKEN_COLUMNS`.
        moments: Over rows with tokens, for the intervals: sums of the products of (1, tokens, nll, p), shape (4, 4).
    """

    def __init__(self, vocab_size: int) -> None:
        self.histogram: NDArray[np.int64] = np.zeros(NUM_FINE_BINS, dtype=np.int64)
        self.classes: Values = np.zeros((len(TARGET_CLASSES), len(SUMS)))
        self.tokens: Values = np.zeros((vocab_size, len(TOKEN_COLUMNS)))
        self.moments: Values = np.zeros((4, 4))

    def add_row(self, nll: Tensor, classes: Tensor, token_ids: Tensor) -> None:
        """Take in the targets of one row.

        Args:
            nll: -log p in nats, float64, shape (N,).
            classes: Index into `TARGET_CLASSES`, shape (N,).
            token_ids: int64, shape (N,).
        """
        p = (-nll).exp()
        self.histogram += count_fine(p)
        self.classes += sums_by_class(nll, classes).numpy()
        columns = torch.stack([torch.ones_like(p), p, (p < LOW).double()], dim=1).numpy()
        np.add.at(self.tokens, token_ids.numpy(), columns)
        row = np.array([1.0, len(nll), float(nll.sum()), float(p.sum())])
        self.moments += np.outer(row, row)

    @property
    def totals(self) -> Values:
        """The columns `SUMS` over all classes."""
        total: Values = self.classes.sum(0)
        return total

    def mean_nll(self) -> tuple[float, float | None, float | None]:
        """Mean over tokens, and its 95% interval over rows."""
        return _ratio(self.moments, 2, most=math.inf)

    def mean_p(self) -> tuple[float, float | None, float | None]:
        """Mean over tokens, and its 95% interval over rows."""
        return _ratio(self.moments, 3, most=1.0)

    def dump(self, record: Mapping[str, Any]) -> bytes:
        """All of it and a record, as one .npz without pickles."""
        buffer = io.BytesIO()
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        np.savez(buffer, record=np.array(json.dumps(record)), **arrays)
        return buffer.getvalue()

    @classmethod
    def load(cls, path: Path) -> tuple[ProbTally, dict[str, Any]]:
        """Read back the content of `dump`; a ValueError or KeyError where it is something else."""
        with np.load(path, allow_pickle=False) as found:
            tally = cls(0)
            for name in _ARRAYS:
                setattr(tally, name, found[name])
            return tally, json.loads(str(found["record"]))


def _ratio(moments: Values, column: int, *, most: float) -> tuple[float, float | None, float | None]:
    """A sum over tokens by their number, with a ratio estimator's interval: tokens of a row are not independent."""
    from scipy import special

    num_rows, num_tokens = moments[0, 0], moments[0, 1]
    mean = float(moments[0, column] / num_tokens)
    if num_rows < 2:
        return mean, None, None
    squares = moments[column, column] - 2 * mean * moments[column, 1] + mean**2 * moments[1, 1]
    error = math.sqrt(max(float(squares), 0.0) * num_rows / (num_rows - 1)) / num_tokens
    reach = float(special.stdtrit(num_rows - 1, (1 + CONFIDENCE) / 2)) * error
    return mean, max(0.0, mean - reach), min(most, mean + reach)
