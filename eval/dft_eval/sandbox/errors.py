"""Errors that say why no program can be run on this machine."""

from __future__ import annotations

from dft_eval.errors import MissingPrerequisite


class SandboxUnavailableError(MissingPrerequisite):
    """No backend isolates programs on this machine."""
