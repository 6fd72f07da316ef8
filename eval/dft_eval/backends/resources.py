"""Processes and models a command holds: opened when first needed, closed together."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from types import TracebackType
from typing import Any, Protocol, TypeVar


class Closable(Protocol):
    """Something that holds memory, connections or a process."""

    def close(self) -> None:
        """Free it."""


Held = TypeVar("Held", bound=Closable)


class Resources:
    """Everything a command holds; use it as a context manager."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Any] = {}
        self._loaded: tuple[Hashable, Any] | None = None

    def keep(self, make: Callable[..., Held], *arguments: Hashable) -> Held:
        """Return `make(*arguments)`, made once and kept until the command ends."""
        key = (make, arguments)
        if key not in self._kept:
            self._kept[key] = make(*arguments)
        held: Held = self._kept[key]
        return held

    def load(self, make: Callable[..., Held], *arguments: Hashable) -> Held:
        """Return `make(*arguments)` as the only loaded model: another one is closed first, since two may not fit."""
        key = (make, arguments)
        if self._loaded is None or self._loaded[0] != key:
            self.unload()
            self._loaded = (key, make(*arguments))
        held: Held = self._loaded[1]
        return held

    def unload(self) -> None:
        """Close the loaded model, if there is one."""
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            loaded[1].close()

    def close(self) -> None:
        """Close the model, then everything that was kept."""
        self.unload()
        while self._kept:
            self._kept.popitem()[1].close()

    def __enter__(self) -> Resources:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
