"""Base class of an objective: a token weight, and the inputs it may read. Nothing here imports torch."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dft_plugin.errors import InputError, OptionError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SequenceNll:
    """Statistics of the mean nll of each sequence, over the sequences of one whole batch, in nats.

    Numbers, or scalars on the device where a call takes its own sequences, so that it need not wait for it.

    Attributes:
        median: Median; of an even number the mean of the two middle ones.
        mean: Mean.
        std: Standard deviation of the population (divided by the number of sequences).
    """

    median: float | Tensor
    mean: float | Tensor
    std: float | Tensor


NO_STEP_BEFORE = SequenceNll(median=1.0, mean=math.inf, std=0.0)
"""Stands for the step before the first one: `talr` then is p with its floor, and `cadft` is DFT."""


@dataclass(frozen=True)
class TokenInputs:
    """Inputs of an objective: one row per kept token, every tensor detached.

    The optional ones are None unless the objective `needs` them.

    Attributes:
        token_logps: log p(y_t | y_<t, x), float32 or float64, shape (N,), in nats.
        targets: y_t, int64, shape (N,).
        entropy: Entropy of the distribution over the vocabulary, shape (N,), in nats.
        top_entropy: Entropy of its 20 likeliest tokens alone, renormalised, shape (N,), in nats.
        concentration: Sum of squared probabilities over the vocabulary, shape (N,).
        ref_logps: log p of the targets under a frozen reference, shape (N,), in nats.
        segments: Number of the sequence each token belongs to, from 0, int64, shape (N,). Needing it means
            that the weight of a token depends on its whole sequence.
        num_segments: How many sequences there are.
        routes: Key of the data source of each token, int64, shape (N,).
        mean_weight: Mean weight to renormalise by; None for that of these tokens.
        sequence_nll: Statistics of the batch's sequences; None for those of these tokens.
    """

    token_logps: Tensor
    targets: Tensor
    entropy: Tensor | None = None
    top_entropy: Tensor | None = None
    concentration: Tensor | None = None
    ref_logps: Tensor | None = None
    segments: Tensor | None = None
    num_segments: int = 0
    routes: Tensor | None = None
    mean_weight: float | None = None
    sequence_nll: SequenceNll | None = None

    def need(self, name: str) -> Tensor:
        """The optional tensor `name`.

        Raises:
            InputError: it was not given.
        """
        value = getattr(self, name)
        if value is None:
            raise InputError(f"the objective needs {name}, and the call gave none; pass it in `context=`.")
        assert not isinstance(value, (int, float))
        return value  # type: ignore[no-any-return]

    def segment_mean(self, values: Tensor) -> Tensor:
        """Mean of `values` (N,) over each token's own sequence, shape (N,)."""
        segments = self.need("segments")
        totals = values.new_zeros(self.num_segments).index_add_(0, segments, values)
        counts = values.new_zeros(self.num_segments).index_add_(0, segments, values.new_ones(values.shape))
        return (totals / counts.clamp(min=1)).index_select(0, segments)

    def segment_sum(self, values: Tensor) -> Tensor:
        """Sum of `values` (N,) over each token's own sequence, shape (N,)."""
        segments = self.need("segments")
        totals = values.new_zeros(self.num_segments).index_add_(0, segments, values)
        return totals.index_select(0, segments)

    def batch_nll(self) -> SequenceNll:
        """`sequence_nll`, or the statistics of the sequences of these tokens."""
        if self.sequence_nll is not None:
            return self.sequence_nll
        segments = self.need("segments")
        totals = self.token_logps.new_zeros(self.num_segments).index_add_(0, segments, -self.token_logps)
        counts = totals.new_zeros(self.num_segments).index_add_(0, segments, totals.new_ones(segments.shape))
        return sequence_nll(totals / counts)


def sequence_nll(means: Tensor) -> SequenceNll:
    """The statistics of sequences whose mean nll are `means`, shape (S,); `NO_STEP_BEFORE` where there are none."""
    count = means.numel()
    if not count:
        return NO_STEP_BEFORE
    means = means.double().sort().values
    return SequenceNll((means[(count - 1) // 2] + means[count // 2]) / 2, means.mean(), means.std(correction=0))


@dataclass(frozen=True)
class Objective:
    """A token weight with its options as fields.

    Attributes:
        name: The word written after `loss_type:`.
        formula: The weight, as a reader would write it.
        source: Paper and equation.
        advice: When to use it, in one line.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    source: ClassVar[str]
    advice: ClassVar[str]

    @property
    def needs(self) -> frozenset[str]:
        """Optional fields of `TokenInputs` that the weight reads; the others are not computed.

        Three more words say how the loss must be computed: `ref_logits` (the distribution of a frozen reference,
        for `kl_scale`), `all_tokens` (the weights of a call depend on each other), and `sequence_nll` (they
        depend on a statistic of the batch's sequences).
        """
        return frozenset()

    @property
    def known_routes(self) -> frozenset[int] | None:
        """Keys of the data sources that the objective takes; None for any."""
        return None

    def weight(self, tokens: TokenInputs) -> Tensor:
        """Weight of each kept token, shape (N,), the dtype of `tokens.token_logps`, detached."""
        raise NotImplementedError

    def kl_scale(self, tokens: TokenInputs) -> Tensor | None:
        """Factor of KL(reference || model) added to each token's loss, shape (N,); None for no such term."""
        return None

    def at(self, progress: float) -> Objective:
        """The objective at a point of training.

        Args:
            progress: Share of the optimiser steps done, in [0, 1].
        """
        return self

    def options(self) -> dict[str, Any]:
        """The options of this instance, by name, as plain data."""
        return dataclasses.asdict(self)


def require_range(objective: Objective, option: str, low: float, high: float, *, is_open: bool = False) -> None:
    """Check that a numeric option lies in [low, high], or in (low, high] where `is_open`.

    Raises:
        OptionError: it does not.
    """
    value = getattr(objective, option)
    if not (low < value if is_open else low <= value) or not value <= high:
        bracket = "(" if is_open else "["
        raise OptionError(f"objective {objective.name!r}: {option}={value!r}; {bracket}{low}, {high}] is accepted.")
