"""Why nothing can be run here."""

from __future__ import annotations

from dft_eval.errors import MissingPrerequisite


class SandboxUnavailableError(MissingPrerequisite):
    """No backend isolates programs on this machine."""
