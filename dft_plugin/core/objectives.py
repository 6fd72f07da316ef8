"""The objective table: a name and a token weight.

Every objective trains `loss_t = -stop_gradient(w_t) * log p_t`; only the weight differs. This is the
one place to add another: the logits path, the fused path, the diagnostics and the tests pick it up
from `OBJECTIVES`. Nothing here imports torch, so that listing the table stays instant.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from dft_plugin.errors import OptionError, UnknownObjectiveError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TokenInputs:
    """What an objective may look at: one row per kept token, every tensor detached.

    Attributes:
        token_logps: log p(y_t | y_<t, x), float32 or float64, shape (N,), in nats.
        entropy: Entropy of the distribution over the vocabulary, same shape and dtype, in nats; None unless
            the objective `needs` it.
    """

    token_logps: Tensor
    entropy: Tensor | None = None


@dataclass(frozen=True)
class Objective:
    """A token weight with its options as fields.

    Attributes:
        name: The word written after `loss_type:`.
        formula: The weight, as a reader would write it.
        source: Paper and equation.
        advice: When to use it, in one line.
        needs: Optional fields of `TokenInputs` that the weight reads; the others are not computed.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    source: ClassVar[str]
    advice: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()

    def weight(self, tokens: TokenInputs) -> Tensor:
        """Weight of each kept token, shape (N,), the dtype of `tokens.token_logps`, never negative."""
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        """The options of this instance, by name."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Sft(Objective):
    """Plain supervised fine-tuning: every token weighs one (arXiv 2508.05629, Eq. 1)."""

    name = "sft"
    formula = "w = 1"
    source = "cross-entropy; arXiv 2508.05629, Eq. 1"
    advice = "new facts, formats, OCR: whatever the model does not know yet"

    def weight(self, tokens: TokenInputs) -> Tensor:
        """Ones, shape (N,)."""
        return tokens.token_logps.new_ones(tokens.token_logps.shape)


@dataclass(frozen=True)
class Dft(Objective):
    """Dynamic Fine-Tuning: each token weighs its own probability, held constant (arXiv 2508.05629, Eq. 9).

    Since grad(1 - p) = p * grad(-log p), its gradient is that of `1 - mean(p)`, which is what the
    monitor logs as the readable curve.
    """

    name = "dft"
    formula = "w = p"
    source = "Dynamic Fine-Tuning, arXiv 2508.05629, Eq. 9"
    advice = "reasoning, code, multimodal maths from a model that can already do some of it"

    def weight(self, tokens: TokenInputs) -> Tensor:
        """exp(token_logps), shape (N,)."""
        return tokens.token_logps.exp()


OBJECTIVES: Mapping[str, type[Objective]] = MappingProxyType({cls.name: cls for cls in (Sft, Dft)})


def get_objective(name: str, **options: Any) -> Objective:
    """Objective `name` with `options` set, the rest at their defaults.

    Raises:
        UnknownObjectiveError: no such name; the message lists the known ones.
        OptionError: an option the objective does not have, or a value of another type.
    """
    try:
        cls = OBJECTIVES[name]
    except (KeyError, TypeError):
        raise UnknownObjectiveError(f"objective={name!r}; known: {', '.join(OBJECTIVES)}.") from None
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for option, value in options.items():
        if option not in fields:
            raise OptionError(
                f"objective {name!r} has no option {option!r}; its options: {', '.join(fields) or 'none'}."
            )
        _check_type(name, option, value, expected=type(fields[option].default))
    return cls(**options)


def describe_objectives() -> list[dict[str, Any]]:
    """The table as plain data: name, formula, options with defaults, source, advice."""
    keys = ("name", "formula", "source", "advice")
    return [{**{key: getattr(cls, key) for key in keys}, "options": cls().options()} for cls in OBJECTIVES.values()]


def as_objective(objective: str | Objective) -> Objective:
    """`objective` itself, or the one of that name with its default options."""
    return objective if isinstance(objective, Objective) else get_objective(objective)


def _check_type(name: str, option: str, value: Any, *, expected: type) -> None:
    is_accepted = isinstance(value, (int, float)) if expected is float else isinstance(value, expected)
    if isinstance(value, bool) is not (expected is bool) or not is_accepted:
        raise OptionError(
            f"objective {name!r}: {option}={value!r} is {type(value).__name__}; {expected.__name__} is accepted."
        )
