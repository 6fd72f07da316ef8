"""Transforms of logits after `lm_head`, found from values and proved bit for bit.

No list of names: any number of the model's configuration may be the factor or the cap. A transform counts as
found only where its formula turns every value the head returned into exactly the value that arrived.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

# Values that decide which formulas are worth an exact comparison, and how far those may be off there.
_NUM_SCREENED = 32
_SCREENING_TOLERANCE = 0.05
_LIKELY_WORDS = ("logit", "head", "output", "scal", "multipl", "cap")


@dataclass(frozen=True)
class LogitTransform:
    """x -> softcap(scale * x), in the operations of the model.

    Attributes:
        scale: Factor of the logits, or their divisor.
        is_divisor: Whether the model divides by `scale`.
        softcap: Bound c of c * tanh(x / c), applied after the factor; None for none.
        in_float32: Whether the model lifts low-precision logits before.
        source: The settings its numbers stand in, for messages; empty for the identity.
    """

    scale: float = 1.0
    is_divisor: bool = False
    softcap: float | None = None
    in_float32: bool = False
    source: str = ""

    @property
    def logit_scale(self) -> float:
        """The factor, as `linear_loss` takes it."""
        return 1 / self.scale if self.is_divisor else self.scale

    def apply(self, logits: Tensor) -> Tensor:
        """The transformed logits, operation by operation as the model does it."""
        if self.in_float32:
            logits = logits.float()
        if self.scale != 1:
            logits = logits / self.scale if self.is_divisor else logits * self.scale
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return logits

    def turns(self, logits: Tensor, arrived: Tensor) -> bool:
        """Return True where `arrived` is exactly this transform of `logits`; an exact change of the dtype is none."""
        expected = self.apply(logits)
        wide = torch.promote_types(expected.dtype, arrived.dtype)
        return expected.shape == arrived.shape and torch.equal(expected.to(wide), arrived.to(wide))


def find_transform(sent: Tensor, arrived: Tensor, settings: Mapping[str, Any]) -> LogitTransform | None:
    """The transform that turns `sent` into `arrived`; None where none of the known formulas does exactly.

    Args:
        sent: What the head returned, of many magnitudes and both signs.
        arrived: The model's logits.
        settings: The model's configuration, nested mappings included.
    """
    if not arrived.is_floating_point() or arrived.shape != sent.shape:
        return None
    for candidate in (LogitTransform(), *_candidates(sent, arrived, settings)):
        if candidate.turns(sent, arrived):
            return candidate
    return None


def _candidates(sent: Tensor, arrived: Tensor, settings: Mapping[str, Any]) -> Iterator[LogitTransform]:
    """Transforms by numbers of `settings` that come close on a few values."""
    numbers = _numbers(settings)
    x, y = _screened(sent, arrived)
    factors = [(1.0, False), *product((v for v in numbers if v != 1), (False, True))]
    scaled = torch.stack([x / v if is_divisor else x * v for v, is_divisor in factors])
    for softcap in (None, *(v for v in numbers if v > 0)):
        guesses = scaled if softcap is None else softcap * torch.tanh(scaled / softcap)
        errors = ((guesses - y).abs() / y.abs()).amax(1)
        for index in (errors <= _SCREENING_TOLERANCE).nonzero().flatten().tolist():
            scale, is_divisor = factors[index]
            parts = [f"{numbers[scale]}={scale:g}"] if scale != 1 else []
            parts += [f"{numbers[softcap]}={softcap:g}"] if softcap is not None else []
            for in_float32 in (False, True) if sent.dtype in (torch.bfloat16, torch.float16) else (False,):
                yield LogitTransform(scale, is_divisor, softcap, in_float32, ", ".join(parts))


def _screened(sent: Tensor, arrived: Tensor) -> tuple[Tensor, Tensor]:
    """A few values of ordinary size and what became of them, in float64."""
    x, y = sent.flatten(), arrived.flatten()
    ordinary = ((x.abs() > 0.5) & (x.abs() < 2000)).nonzero().flatten()[:_NUM_SCREENED]
    return x[ordinary].double().cpu(), y[ordinary].double().cpu()


def _numbers(settings: Mapping[str, Any]) -> dict[float, str]:
    """The finite numbers of a configuration but 0, with the name each most likely stands for."""
    names: dict[float, str] = {}
    for name, value in _leaves(settings):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value == 0:
            continue
        is_likelier = value not in names or _likelihood(name) > _likelihood(names[float(value)])
        if is_likelier:
            names[float(value)] = name
    return names


def _likelihood(name: str) -> int:
    return sum(word in name for word in _LIKELY_WORDS)


def _leaves(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _leaves({str(key): entry for key, entry in value.items()})
        else:
            yield str(name), value
