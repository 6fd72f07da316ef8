"""Objectives made from others: shaped by the options that all of them share, or chosen by where a token comes from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dft_plugin.core.objective import Objective, TokenInputs
from dft_plugin.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


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
        """What the base needs; renormalised weights depend on each other."""
        return self.base.needs | ({"all_tokens"} if self.is_mean_one else set())

    def weight(self, tokens: TokenInputs) -> Tensor:
        """The shaped weight, shape (N,)."""
        weight = self.base.weight(tokens)
        if self.floor is not None or self.cap is not None:
            weight = weight.clamp(min=self.floor, max=self.cap)
        if self.full_weight_tokens:
            is_full = (tokens.targets[:, None] == tokens.targets.new_tensor(self.full_weight_tokens)).any(1)
            weight = weight.masked_fill(is_full, 1.0)
        if self.is_mean_one and weight.numel():
            mean = weight.mean() if tokens.mean_weight is None else weight.new_tensor(tokens.mean_weight)
            weight = weight / mean.where(mean > 0, mean.new_ones(()))
        return weight

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
        """What any of the objectives needs, and the routes."""
        needs = {"routes"}
        for objective in self._objectives():
            needs |= objective.needs
        return frozenset(needs)

    def weight(self, tokens: TokenInputs) -> Tensor:
        """The weight of each token's own objective, shape (N,).

        Raises:
            InputError: a token from a source without a rule.
        """
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
        is_known = routes != routes
        for mask, _ in masks:
            is_known = is_known | mask
        if self.default is not None:
            return [*masks, (~is_known, self.default)]
        if not bool(is_known.all()):
            unknown = sorted({int(key) for key in routes[~is_known][:5]})
            raise InputError(
                f"tokens come from data sources (keys {unknown}) without a rule; the data was tokenized for other "
                "rules. Tokenize it again, or add a rule for '*'."
            )
        return masks
