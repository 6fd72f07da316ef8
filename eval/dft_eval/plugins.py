"""Benchmarks and backends of other packages, found by their entry points."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from dft_eval.errors import PluginError

Kind = TypeVar("Kind")


class PluginTable(Mapping[str, type[Kind]]):
    """Classes by name: those of this package, then those of other packages, which are imported when asked for.

    A name of this package stays its own, whatever another package calls so.

    Args:
        group: Group of the entry points.
        base: Class that every entry derives from.
        own: This package's classes.
    """

    def __init__(self, group: str, base: type[Any], own: Mapping[str, type[Kind]]) -> None:
        self._group, self._base, self._own = group, base, own
        self._foreign: dict[str, type[Kind]] = {}

    def __getitem__(self, name: str) -> type[Kind]:
        if name in self._own:
            return self._own[name]
        if name not in self._foreign:
            self._foreign[name] = self._load(self._entry_points()[name])
        return self._foreign[name]

    def __iter__(self) -> Iterator[str]:
        return iter([*self._own, *(name for name in self._entry_points() if name not in self._own)])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _entry_points(self) -> dict[str, importlib.metadata.EntryPoint]:
        points: dict[str, importlib.metadata.EntryPoint] = {}
        for point in importlib.metadata.entry_points(group=self._group):
            known = points.setdefault(point.name, point)
            if known.value != point.value:
                raise PluginError(
                    f"two packages offer {point.name!r} in {self._group}: {known.value} and {point.value}. "
                    "Uninstall one."
                )
        return points

    def _load(self, point: importlib.metadata.EntryPoint) -> type[Kind]:
        package = point.dist.name if point.dist else "another package"
        origin = f"{self._group} {point.name!r} of {package} ({point.value})"
        try:
            found = point.load()
        except Exception as error:
            raise PluginError(
                f"{origin} could not be loaded: {type(error).__name__}: {error}. Repair that package, or uninstall it."
            ) from error
        if not (isinstance(found, type) and issubclass(found, self._base)):
            accepted = f"a class derived from {self._base.__module__}.{self._base.__name__}"
            raise PluginError(f"{origin} is {found!r}; {accepted} is accepted.")
        return found
