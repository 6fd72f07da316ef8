"""`loss_type` and `loss_config` as users write them, checked before any model is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from dft_plugin.core.column_filter import AUTO_BOUND
from dft_plugin.core.composed_objectives import Shaped
from dft_plugin.core.objectives import OBJECTIVES, Objective, get_objective
from dft_plugin.errors import ConfigError, ConflictError, OptionError, UnknownObjectiveError
from dft_plugin.loss_route import Route

ENV_LOSS_CONFIG = "DFT_LOSS_CONFIG"
# Options that say how the loss is computed, not what is trained; a resumed run may change them.
EXECUTION_OPTIONS = frozenset({"fused", "chunk_size", "verify"})


class SharedOptions(BaseModel):
    """Options every objective takes, whatever the framework.

    Attributes:
        fused: Compute the loss in `lm_head` without making the logits: "auto" does where it is exact and says why
            where not, True refuses to train where it is not, False always makes the logits.
        chunk_size: Rows of logits in memory at a time on the fused path; None for a size that fits.
        verify: Compare the fused loss and gradient with the float32 logits path on the first micro-batch.
        gradient_filter: "auto" or the bound of an approximate, faster gradient of the hidden states on the fused path
            (see `core.column_filter`); the head's own gradient stays exact. "off", which YAML reads as False: exact.
        floor: Smallest weight of a token.
        cap: Largest weight of a token.
        full_weight_tokens: Tokens that always weigh one: their text, their id, or "eos" for the tokenizer's
            end-of-sequence token and the model's end-of-turn token.
        renormalise: "mean_one" divides the weights by their mean over the optimiser step before, so that the step
            size stays that of plain training.
        route: Objectives by data source.
        sample_weight: Column of the data with a factor of each sample's loss, beside the objective's own weight.
        reduction: "token_mean" divides the summed losses of an optimiser step by its trained tokens, "sample_mean"
            takes the mean over each sample's tokens first, and divides their sum by its samples.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    fused: Literal["auto"] | bool = "auto"
    chunk_size: Annotated[int, Field(ge=1)] | None = None
    verify: bool = True
    gradient_filter: Literal["off", "auto"] | Annotated[float, Field(gt=0, allow_inf_nan=False)] = "off"
    floor: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    cap: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    full_weight_tokens: list[str | int] = []
    renormalise: Literal["mean_one"] | None = None
    route: Route | None = None
    sample_weight: Annotated[str, Field(min_length=1)] | None = None
    reduction: Literal["token_mean", "sample_mean"] = "token_mean"

    @field_validator("gradient_filter", mode="before")
    @classmethod
    def _read_yaml_off(cls, value: Any) -> Any:
        return "off" if value is False else value

    @property
    def filter_bound(self) -> float | None:
        """The bound of `gradient_filter`; None where it is off."""
        if isinstance(self.gradient_filter, str):
            return AUTO_BOUND if self.gradient_filter == "auto" else None
        return self.gradient_filter


@dataclass(frozen=True)
class LossConfig:
    """One run's loss: the objective with its options, and the options shared by all.

    Attributes:
        objective: The objective, options set.
        shared: The shared options.
    """

    objective: Objective
    shared: SharedOptions

    @classmethod
    def parse(cls, loss_type: Any, loss_config: Any = None, *, where: str = "loss_type") -> LossConfig:
        """Settings as a framework hands them over.

        Args:
            loss_type: Name of the objective.
            loss_config: Mapping of options, JSON text of one, or None.
            where: What to name in the message, for example the YAML key.

        Raises:
            UnknownObjectiveError: no such objective.
            OptionError: not a mapping, an unknown option, or a value of the wrong type.
        """
        if not isinstance(loss_type, str) or loss_type not in OBJECTIVES:
            raise UnknownObjectiveError(
                f"{where}={loss_type!r} is not an objective of dft-plugin; known: {', '.join(OBJECTIVES)}. "
                "`dft objectives` describes them."
            )
        options = _as_mapping(loss_config)
        shared = {key: value for key, value in options.items() if key in SharedOptions.model_fields}
        own = {key: value for key, value in options.items() if key not in shared}
        try:
            objective, shared_options = get_objective(loss_type, **own), SharedOptions(**shared)
        except OptionError as error:
            raise OptionError(f"loss_config: {error} Shared options: {_names(SharedOptions)}.") from None
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise OptionError(f"loss_config: {problems}. Shared options: {_names(SharedOptions)}.") from None

        _refuse_contradictions(loss_type, own, shared_options)
        return cls(objective, shared_options)

    def training_objective(self, full_weight_tokens: tuple[int, ...] = ()) -> Objective:
        """Return the objective that is trained: routed and shaped as the shared options say.

        Args:
            full_weight_tokens: Ids of the shared option of that name, looked up in the run's tokenizer.
        """
        shared = self.shared
        base = self.objective if shared.route is None else shared.route.objective(self.objective.name)
        shaped = Shaped(base, shared.floor, shared.cap, full_weight_tokens, shared.renormalise is not None)
        return base if shaped == Shaped(base) else shaped

    @property
    def needs_samples(self) -> bool:
        """Return True where the loss must know which sample each token belongs to, whatever the objective."""
        return self.shared.sample_weight is not None or self.shared.reduction == "sample_mean"

    def chosen(self) -> dict[str, Any]:
        """Return the options that decide the training: the objective's, and the shared ones that were set."""
        own = {} if self.shared.route else self.objective.options()
        return {**own, **self.shared.model_dump(exclude=set(EXECUTION_OPTIONS), exclude_defaults=True)}

    def record(self) -> dict[str, Any]:
        """Return the settings that a run folder and a model card state."""
        return {
            "loss_type": self.objective.name,
            # with routes the objectives' options stand in the rules
            "loss_config": {**({} if self.shared.route else self.objective.options()), **self.shared.model_dump()},
        }


def _refuse_contradictions(loss_type: str, own: Mapping[str, Any], shared: SharedOptions) -> None:
    if shared.floor is not None and shared.cap is not None and shared.floor > shared.cap:
        raise ConflictError(f"loss_config: floor={shared.floor} is above cap={shared.cap}.")
    if shared.fused is False and shared.filter_bound is not None:
        raise ConflictError(
            f"loss_config: gradient_filter={shared.gradient_filter} with fused=false; only the fused loss has a "
            "filtered gradient. Remove one of the two."
        )
    if shared.sample_weight is not None and "ref_logps" in _needs(loss_type, own, shared):
        raise ConflictError(
            f"loss_config: sample_weight={shared.sample_weight} with an objective that reads ref_logps from the data: "
            "a sample can carry one of the two to the loss. Remove sample_weight, or choose another objective."
        )
    if shared.route is not None:
        if own:
            raise ConflictError(
                f"loss_config: {', '.join(own)} of {loss_type!r} beside route; write the options into the rules, as "
                "{source: {loss_type: NAME, option: value}}."
            )
        shared.route.objective(loss_type)


def _needs(loss_type: str, own: Mapping[str, Any], shared: SharedOptions) -> frozenset[str]:
    return (get_objective(loss_type, **own) if shared.route is None else shared.route.objective(loss_type)).needs


def require_loss_type(loss_type: Any, loss_config: Any) -> bool:
    """Return True where a loss was asked for.

    Raises:
        ConfigError: options without an objective to take them.
    """
    if loss_type is None and loss_config is not None:
        raise ConfigError(f"loss_config={loss_config!r} without loss_type; add `loss_type: NAME`, or remove it.")
    return loss_type is not None


def _as_mapping(loss_config: Any) -> Mapping[str, Any]:
    if loss_config is None:
        return {}
    if isinstance(loss_config, str):
        try:
            loss_config = json.loads(loss_config)
        except json.JSONDecodeError as error:
            raise OptionError(
                f"loss_config={loss_config!r} is not JSON ({error}); write '{{\"option\": value}}'."
            ) from None
    if not isinstance(loss_config, Mapping) or not all(isinstance(key, str) for key in loss_config):
        raise OptionError(f"loss_config={loss_config!r}; a mapping {{option: value}} is accepted.")
    return loss_config


def _names(model: type[BaseModel]) -> str:
    return ", ".join(model.model_fields) or "none"
