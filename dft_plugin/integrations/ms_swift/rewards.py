"""The graders of `dft eval grade` as reward functions of ms-swift's GRPO."""

from __future__ import annotations

from typing import Any

from dft_eval.rollout.reward import Golds, rewards
from dft_eval.run.grade import Rules

_CLASSES: dict[Rules, str] = {"math": "DftMath", "short_answer": "DftShortAnswer", "choice": "DftChoice"}
"""Class names, which ms-swift's logs show (`rewards/DftMath/mean`)."""


def register() -> None:
    """Add `dft_math`, `dft_short_answer` and `dft_choice` to what `--reward_funcs` accepts."""
    from swift.rewards import ORM, orms

    for rules, name in _CLASSES.items():
        orms[f"dft_{rules}"] = type(name, (ORM,), {"__call__": _reward_by(rules)})


def _reward_by(rules: Rules) -> Any:
    def reward(self: Any, completions: list[str], solution: list[Golds], **_: Any) -> list[float]:
        return rewards(completions, solution, rules)

    return reward
