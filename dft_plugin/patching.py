"""Replacements of the attributes of a framework: checked before, reversible after."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from dft_plugin.errors import IntegrationError
from dft_plugin.frameworks import Probe


class Patches:
    """The replacements made in one framework, newest last."""

    def __init__(self, framework: str) -> None:
        self._framework = framework
        self._undo: list[tuple[Any, str, Any]] = []

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any], *, accepts: Iterable[str] = ()) -> None:
        """Set `owner.name = make(original)`; nothing happens where that was done already.

        Args:
            owner: Module or class.
            name: Attribute to replace.
            make: Builds the replacement from the original.
            accepts: Parameters the original must take, by name.

        Raises:
            IntegrationError: the attribute is missing or takes other parameters.
        """
        if any(owner is done and name == attribute for done, attribute, _ in self._undo):
            return
        label = f"{getattr(owner, '__name__', owner)}.{name}"
        try:
            original = getattr(owner, name)
        except AttributeError:
            raise IntegrationError(
                f"{self._framework} has no {label}; dft-plugin was written for another version. See `dft doctor`."
            ) from None
        require_parameters(original, accepts, label=f"{self._framework}: {label}")
        self._undo.append((owner, name, original))
        setattr(owner, name, make(original))

    def revert(self) -> None:
        """Put every original back, newest first."""
        while self._undo:
            owner, name, original = self._undo.pop()
            setattr(owner, name, original)


def require_parameters(function: Callable[..., Any], names: Iterable[str], *, label: str) -> None:
    """Check that `function` takes the parameters we pass.

    Raises:
        IntegrationError: one is missing; the message names it.
    """
    parameters = inspect.signature(function).parameters
    missing = [name for name in names if name not in parameters]
    if missing:
        raise IntegrationError(
            f"{label} no longer takes {', '.join(missing)}; it takes {', '.join(parameters)}. See `dft doctor`."
        )


def probe_modules(names: Iterable[str], failures: dict[str, Exception]) -> list[Probe]:
    """Import every module an integration extends and say whether it could be; imports the framework.

    Args:
        names: The framework's modules.
        failures: What went wrong by module, as the integration noted it; import errors are added.
    """
    probes = []
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - whatever the framework's own import raises is the finding
            failures.setdefault(name, error)
        failure = failures.get(name)
        detail = "" if failure is None else f"{type(failure).__name__}: {failure}"
        probes.append(Probe(f"extend {name}", failure is None, detail))
    return probes
