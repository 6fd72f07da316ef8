"""The objective table: every name that may follow `loss_type:`.

Every objective trains `loss_t = -stop_gradient(w_t) * log p_t`; only the weight differs (`asft` adds an anchor).
This is the one place to add another: the logits path, the fused path, the diagnostics and the tests pick it up
from `OBJECTIVES`. Other packages add theirs through the entry-point group `dft_plugin.objectives`; our own names
stay ours. Nothing here imports torch, so that listing the table stays instant.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from dft_plugin.core.objective import Objective, TokenInputs
from dft_plugin.core.sequence_objectives import Asft, Cadft, DftGeometricMean, DftSequence, IwSft, Prift
from dft_plugin.core.token_objectives import (
    ChordPhi,
    Deft,
    Dft,
    DftFloor,
    Eaft,
    Focal,
    GftDcr,
    InfoSft,
    Mix,
    Power,
    Profit,
    Sft,
    Talr,
)
from dft_plugin.errors import ObjectivePluginError, OptionError, UnknownObjectiveError

__all__ = [
    "ENTRY_POINTS",
    "OBJECTIVES",
    "Objective",
    "TokenInputs",
    "as_objective",
    "describe_objectives",
    "get_objective",
]

ENTRY_POINTS = "dft_plugin.objectives"

_OWN: tuple[type[Objective], ...] = (
    *(Sft, Dft, DftSequence, DftGeometricMean, Power, DftFloor, Mix, Profit),
    *(Eaft, Deft, Talr, ChordPhi, Focal, IwSft, Prift, Asft, InfoSft, GftDcr, Cadft),
)


class _Table(Mapping[str, type[Objective]]):
    """Our objectives, then those of other packages, which are imported when one of their names is looked up."""

    def __init__(self) -> None:
        self._own = {cls.name: cls for cls in _OWN}
        self._foreign: dict[str, type[Objective]] = {}

    def __getitem__(self, name: str) -> type[Objective]:
        if name in self._own:
            return self._own[name]
        if name not in self._foreign:
            self._foreign[name] = _load(self._entry_points()[name])
        return self._foreign[name]

    def __iter__(self) -> Iterator[str]:
        return iter([*self._own, *(name for name in self._entry_points() if name not in self._own)])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self._entry_points()

    @staticmethod
    def _entry_points() -> dict[str, importlib.metadata.EntryPoint]:
        points: dict[str, importlib.metadata.EntryPoint] = {}
        for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
            known = points.setdefault(point.name, point)
            if known.value != point.value:
                raise ObjectivePluginError(
                    f"two packages offer an objective {point.name!r}: {known.value} and {point.value}. Uninstall one."
                )
        return points


def _load(point: importlib.metadata.EntryPoint) -> type[Objective]:
    origin = f"objective {point.name!r} of {point.dist.name if point.dist else 'another package'} ({point.value})"
    try:
        cls = point.load()
    except Exception as error:
        raise ObjectivePluginError(
            f"{origin} could not be loaded: {type(error).__name__}: {error}. Repair that package, or uninstall it."
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, Objective) and dataclasses.is_dataclass(cls)):
        raise ObjectivePluginError(
            f"{origin} is {cls!r}; a frozen dataclass derived from dft_plugin.Objective is accepted."
        )
    missing = [key for key in ("name", "formula", "source", "advice") if not isinstance(getattr(cls, key, None), str)]
    if missing or cls.name != point.name:
        problem = f"lacks {', '.join(missing)}" if missing else f"calls itself {cls.name!r}"
        raise ObjectivePluginError(f"{origin} {problem}; see `Objective` for what an objective states about itself.")
    return cls


OBJECTIVES: Mapping[str, type[Objective]] = _Table()


def get_objective(name: str, **options: Any) -> Objective:
    """Objective `name` with `options` set, the rest at their defaults.

    Raises:
        UnknownObjectiveError: no such name; the message lists the known ones.
        OptionError: an option the objective does not have, or a value it does not accept.
        ObjectivePluginError: the objective of another package is broken.
    """
    if not isinstance(name, str) or name not in OBJECTIVES:
        raise UnknownObjectiveError(f"objective={name!r}; known: {', '.join(OBJECTIVES)}.")
    cls = OBJECTIVES[name]
    fields = {field.name: field for field in dataclasses.fields(cls)}
    accepted = typing.get_type_hints(cls)
    for option, value in options.items():
        if option not in fields:
            raise OptionError(
                f"objective {name!r} has no option {option!r}; its options: {', '.join(fields) or 'none'}."
            )
        _check_type(name, option, value, expected=accepted[option])
    return cls(**options)


def describe_objectives() -> list[dict[str, Any]]:
    """The table as plain data: name, formula, options with defaults, source, advice."""
    keys = ("name", "formula", "source", "advice")
    classes = [OBJECTIVES[name] for name in OBJECTIVES]
    return [{**{key: getattr(cls, key) for key in keys}, "options": cls().options()} for cls in classes]


def as_objective(objective: str | Objective) -> Objective:
    """`objective` itself, or the one of that name with its default options."""
    return objective if isinstance(objective, Objective) else get_objective(objective)


def _check_type(name: str, option: str, value: Any, *, expected: Any) -> None:
    if typing.get_origin(expected) is Literal:
        choices = typing.get_args(expected)
        if value not in choices:
            raise OptionError(f"objective {name!r}: {option}={value!r}; accepted: {', '.join(map(repr, choices))}.")
        return
    is_accepted = isinstance(value, (int, float)) if expected is float else isinstance(value, expected)
    if isinstance(value, bool) is not (expected is bool) or not is_accepted or value != value:
        raise OptionError(
            f"objective {name!r}: {option}={value!r} is {type(value).__name__}; {expected.__name__} is accepted."
        )
