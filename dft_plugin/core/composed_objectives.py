"""Objectives made from others: shaped by the options that all of them share, or chosen by where a token comes from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dft_plugin.core.objective import Objective, TokenInputs


@dataclass(frozen=True)
class Shaped(Objective):
    """Another objective's weight, bounded, overridden for some tokens, and renormalised, in this order.

    Attributes:
        base: The objective.
        floor: Smallest weight; None for none.
        cap: Largest weight; None for none.
        full_weight_tokens: Token ids that always weigh one, whatever the bounds say.
        is_mean_one: Whether weights are divided by their mean, so that the step size stays that of SFT. The mean
            is `TokenInputs.mean_weight` where it is given (in a training run that of the step before, so that
            micro-batches and ranks agree), else that of the call.
    """

    base: Objective
    floor: float | None = None
    cap: float | None = None
    full_weight_tokens: tuple[int, ...] = ()
    is_mean_one: bool = False

    @property
    def name(self) -> str:  # type: ignore[override]
        """Name of the objective that is shaped."""
        return self.base.name

    @property
    def needs(self) -> frozenset[str]:
        """Needs of the base; renormalised weights depend on each other."""
        return self.base.needs | ({"all_tokens"} if self.is_mean_one else set())

    def weight(self, tokens: TokenInputs) -> Tensor:
        """The shaped weight, shape (N,)."""
        weight = self.base.weight(tokens)
        if self.floor is not None or self.cap is not None:
            weight = weight.clamp(min=self.floor, max=self.cap)
        if self.full_weight_tokens:
            for token in self.full_weight_tokens:  # a tensor of them would be copied to the device for each chunk
                weight = weight.masked_fill(tokens.targets == token, 1.0)
        if self.is_mean_one and weight.numel():
            weight = weight / _mean(weight, tokens.mean_weight)
        return weight

    @property
    def known_routes(self) -> frozenset[int] | None:
        """The base's."""
        return self.base.known_routes

    def kl_scale(self, tokens: TokenInputs) -> Tensor | None:
        """The base's."""
        return self.base.kl_scale(tokens)

    def at(self, progress: float) -> Objective:
        """The same shape around the base at that point."""
        return dataclasses.replace(self, base=self.base.at(progress))

    def options(self) -> dict[str, Any]:
        """Those of the base."""
        return self.base.options()


@dataclass(frozen=True)
class Routed(Objective):
    """Each token trained by the objective of the data it comes from.

    Attributes:
        rules: Objective by the key of a data source.
        default: Objective of every other source; None refuses them.
    """

    name = "route"
    formula = "w of the objective that the token's data source is routed to"
    source = "dft-plugin"
    advice = "SFT on facts and OCR, DFT on reasoning, in one run"

    rules: Mapping[int, Objective]
    default: Objective | None = None

    @property
    def needs(self) -> frozenset[str]:
        """Needs of all the objectives, and the routes."""
        needs = {"routes"}
        for objective in self._objectives():
            needs |= objective.needs
        return frozenset(needs)

    @property
    def known_routes(self) -> frozenset[int] | None:
        """The sources with a rule, where no default takes the others."""
        return frozenset(self.rules) if self.default is None else None

    def weight(self, tokens: TokenInputs) -> Tensor:
        """The weight of each token's own objective, shape (N,); the loss refuses those from unknown sources."""
        weight = tokens.token_logps.new_zeros(tokens.token_logps.shape)
        for is_routed, objective in self._masks(tokens):
            weight = objective.weight(tokens).where(is_routed, weight)
        return weight

    def kl_scale(self, tokens: TokenInputs) -> Tensor | None:
        """Each token's own objective's, 0 where it has none."""
        if "ref_logits" not in self.needs:
            return None
        total = None
        for is_routed, objective in self._masks(tokens):
            scale = objective.kl_scale(tokens)
            if scale is not None:
                scale = scale.where(is_routed, scale.new_zeros(()))
                total = scale if total is None else total + scale
        return total

    def at(self, progress: float) -> Objective:
        """Every objective at that point."""
        rules = {key: objective.at(progress) for key, objective in self.rules.items()}
        return Routed(rules, None if self.default is None else self.default.at(progress))

    def options(self) -> dict[str, Any]:
        """None of its own."""
        return {}

    def _objectives(self) -> list[Objective]:
        return [*self.rules.values(), *([] if self.default is None else [self.default])]

    def _masks(self, tokens: TokenInputs) -> list[tuple[Tensor, Objective]]:
        routes = tokens.need("routes")
        masks = [(routes == key, objective) for key, objective in self.rules.items()]
        if self.default is None:
            return masks
        is_other = torch.ones_like(routes, dtype=torch.bool)
        for mask, _ in masks:
            is_other = is_other & ~mask
        return [*masks, (is_other, self.default)]


def _mean(weight: Tensor, given: float | None) -> Tensor | float:
    """The mean to divide by, one where it is zero."""
    if given is not None:
        return given if given > 0 else 1.0
    mean = weight.mean()
    return mean.where(mean > 0, 1.0)
