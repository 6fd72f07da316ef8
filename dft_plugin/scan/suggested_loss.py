"""Settings ready to paste into either framework's configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

MIX_ALPHA = 0.7
"""The default of `mix`."""
TEMPLATE_FLOOR = 0.1
"""The floor DFT's authors suggest where a format is not learned."""


@dataclass(frozen=True)
class SuggestedLoss:
    """One loss.

    Attributes:
        loss_type: Name of the objective.
        loss_config: Its options.
    """

    loss_type: str
    loss_config: dict[str, Any]

    def record(self) -> dict[str, Any]:
        """The settings, and how each framework spells them."""
        text = f"loss_type: {self.loss_type}\n"
        command = f"--loss_type {self.loss_type}"
        if self.loss_config:
            flow = yaml.safe_dump(self.loss_config, default_flow_style=True, sort_keys=False, width=100_000).strip()
            text += f"loss_config: {flow}\n"
            quoted = json.dumps(self.loss_config).replace("'", "'\\''")
            command += f" --loss_config '{quoted}'"
        return {
            "loss_type": self.loss_type,
            "loss_config": self.loss_config,
            "yaml": text,
            "ms_swift": command,
        }


def suggest_one(objective: str, *, starved_ends: Sequence[str], is_template_starved: bool) -> SuggestedLoss:
    """One objective for everything.

    Args:
        objective: Its name.
        starved_ends: End tokens that need their full weight, in the words of `full_weight_tokens`.
        is_template_starved: Whether template tokens need a floor.
    """
    options: dict[str, Any] = {"alpha": MIX_ALPHA} if objective == "mix" else {}
    return SuggestedLoss(objective, {**options, **_format_options(starved_ends, is_template_starved)})


def suggest_route(
    objectives: Mapping[str, str], *, starved_ends: Sequence[str], is_template_starved: bool
) -> SuggestedLoss:
    """Each dataset by its own objective.

    Every dataset is named and there is no rule for others: the trainer then refuses a dataset that was not
    scanned, or that it knows by another name, instead of training it with a default.
    """
    route = {"by": "dataset", "rules": dict(objectives)}
    loss_type = next(name for name in ("dft", "mix", "sft") if name in objectives.values())
    return SuggestedLoss(loss_type, {"route": route, **_format_options(starved_ends, is_template_starved)})


def _format_options(starved_ends: Sequence[str], is_template_starved: bool) -> dict[str, Any]:
    options: dict[str, Any] = {"full_weight_tokens": list(starved_ends)} if starved_ends else {}
    return options | ({"floor": TEMPLATE_FLOOR} if is_template_starved else {})
