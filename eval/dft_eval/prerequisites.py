"""A tool or library that is not installed, as languages, sandboxes and benchmarks report it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Missing:
    """Something a benchmark cannot run without.

    Attributes:
        what: For example `php`.
        install: The command that installs it.
    """

    what: str
    install: str
