"""Readable statistics of a token-weighted loss, as sums that add up over micro-batches and ranks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dft_plugin.core.reduction import LossOutput
from dft_plugin.errors import InputError

NUM_CLASSES = 6
NUM_BINS = 20
LOW_WEIGHT = 0.05
# One vector, in this order; routes come last, because their number is the run's.
_SCALARS = (
    "tokens",
    "nll",
    "p",
    "weight",
    "weight_squared",
    "objective",
    "top",
    "low_weight",
    "entropy_tokens",
    "entropy",
    "kl_tokens",
    "kl",
)
_OF_CLASS = ("tokens", "p", "weight", "nll")
_OF_ROUTE = ("tokens", "nll", "weight")
_HISTOGRAM = slice(len(_SCALARS), len(_SCALARS) + NUM_BINS)
_CLASSES = slice(_HISTOGRAM.stop, _HISTOGRAM.stop + NUM_CLASSES * len(_OF_CLASS))
_ROUTES = slice(_CLASSES.stop, None)


@dataclass(frozen=True)
class TokenStats:
    """Sums over kept tokens.

    Attributes:
        sums: float64, shape (56 + 3 * num_routes,): 12 sums over all kept tokens (their number, nll, p, weight, weight
            squared, weight times nll, targets on top, weights below 0.05, tokens with an entropy and its sum, tokens
            with a KL and its sum), the weights in 20 equal bins of [0, 1] with the last open to the right, per
            token class (tokens, p, weight, nll), per route (tokens, nll, weight).
    """

    sums: Tensor

    @classmethod
    def of(
        cls, output: LossOutput, *, classes: Tensor | None = None, routes: Tensor | None = None, num_routes: int = 0
    ) -> TokenStats:
        """Statistics of one loss call, on its device, without waiting for it.

        Args:
            output: The loss call.
            classes: Class of each label, int64 in [0, 6), the labels' own shape (..., T), before any shift.
            routes: Route of each kept label, int64 in [0, num_routes), likewise.
            num_routes: How many routes the run has; the same in every call and on every rank.

        Raises:
            InputError: `classes` or `routes` have another shape than the labels, or routes without their number.
        """
        if routes is not None and not num_routes:
            raise InputError("routes were given without num_routes; pass how many routes the run has.")
        mask = output.loss_mask.reshape(-1)
        kept, nll, weight, top = (
            x.reshape(-1).double()
            for x in (output.loss_mask, output.token_nll, output.token_weight, output.token_is_top)
        )
        p = (-nll).exp() * kept
        low = kept * (weight < LOW_WEIGHT)
        columns = [kept, nll, p, weight, weight * weight, weight * nll, top, low]
        for values in (output.token_entropy, output.token_kl):
            columns += [torch.zeros_like(kept)] * 2 if values is None else [kept, values.reshape(-1).double()]
        parts = [torch.stack([column.sum() for column in columns])]
        bins = (weight * NUM_BINS).long().clamp(0, NUM_BINS - 1)
        # Ignored tokens add zeros: choosing the kept ones would make the device report their number.
        parts.append(kept.new_zeros(NUM_BINS).index_add_(0, bins, kept))
        for keys, count, of_key in (
            (classes, NUM_CLASSES, (kept, p, weight, nll)),
            (routes, num_routes, (kept, nll, weight)),
        ):
            table = kept.new_zeros(count, len(of_key))
            if keys is not None:
                table.index_add_(0, _aligned(keys, output).where(mask, 0), torch.stack(of_key, 1))
            parts.append(table.view(-1))
        return cls(torch.cat(parts))

    @classmethod
    def zero(cls, *, num_routes: int = 0) -> TokenStats:
        """No tokens yet."""
        return cls(torch.zeros(_CLASSES.stop + num_routes * len(_OF_ROUTE), dtype=torch.float64))

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
            `low_weight_tokens`: share of tokens with a weight below 0.05.
            `entropy`: mean entropy over the vocabulary in nats; only where the objective computed it.
            `kl`: mean KL(reference || model) in nats; only where the objective has such a term.
        """
        sums = dict(zip(_SCALARS, self.sums[: len(_SCALARS)].tolist(), strict=True))
        tokens, weight = sums["tokens"], sums["weight"]
        if not tokens:
            return {}
        means = {
            "nll": sums["nll"] / tokens,
            "one_minus_p": 1.0 - sums["p"] / tokens,
            "token_accuracy": sums["top"] / tokens,
            "objective": sums["objective"] / tokens,
            "effective_tokens": weight * weight / (tokens * sums["weight_squared"]) if sums["weight_squared"] else 0.0,
            "low_weight_tokens": sums["low_weight"] / tokens,
        }
        for name in ("entropy", "kl"):
            if sums[f"{name}_tokens"]:
                means[name] = sums[name] / sums[f"{name}_tokens"]
        return means

    @property
    def num_tokens(self) -> int:
        """Kept tokens."""
        return int(self.sums[0])

    @property
    def mean_weight(self) -> float | None:
        """Mean weight of the kept tokens; None where there are none."""
        tokens, weight = self.sums[0].item(), self.sums[_SCALARS.index("weight")].item()
        return weight / tokens if tokens else None

    def weight_histogram(self) -> list[int]:
        """Kept tokens in 20 equal bins of the weight over [0, 1]; the last holds every weight from 0.95 up."""
        return [int(count) for count in self.sums[_HISTOGRAM].tolist()]

    def class_means(self) -> dict[int, dict[str, float]]:
        """Of each class with tokens: `tokens` (how many), and the means `p`, `weight` and `nll` (nats)."""
        return _means_by_key(self.sums[_CLASSES], _OF_CLASS)

    def route_means(self) -> dict[int, dict[str, float]]:
        """Of each route with tokens: `tokens` (how many), and the means `nll` (nats) and `weight`."""
        return _means_by_key(self.sums[_ROUTES], _OF_ROUTE)


def _aligned(keys: Tensor, output: LossOutput) -> Tensor:
    """Keys of the labels, flat, at the positions of `output`, which has one fewer where it shifted the labels."""
    shape = output.token_nll.shape
    if keys.shape == (*shape[:-1], shape[-1] + 1):
        keys = keys[..., 1:]
    if keys.shape != shape:
        raise InputError(
            f"classes or routes have shape {tuple(keys.shape)}, the token losses {tuple(shape)}; the labels' own shape "
            "is accepted."
        )
    return keys.reshape(-1)


def _means_by_key(sums: Tensor, names: tuple[str, ...]) -> dict[int, dict[str, float]]:
    rows = sums.view(-1, len(names)).tolist()
    return {
        key: {"tokens": row[0], **{name: value / row[0] for name, value in zip(names[1:], row[1:], strict=True)}}
        for key, row in enumerate(rows)
        if row[0]
    }
