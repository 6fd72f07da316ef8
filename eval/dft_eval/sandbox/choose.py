"""Choice of the isolation this machine allows: each backend is tried once, nothing is assumed."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Literal, Protocol

from dft_eval.sandbox.bubblewrap import INSTALL, Bubblewrap
from dft_eval.sandbox.errors import SandboxUnavailableError
from dft_eval.sandbox.landlock import Landlock
from dft_eval.sandbox.program import Command, Limits, Outcome

BackendName = Literal["bubblewrap", "landlock"]
CHOICE_VARIABLE = "DFT_SANDBOX"
"""Environment variable that names the backend; unset: the first that works."""

_PROBE = Command(("/usr/bin/bash", "-c", "exec 2>&1; echo inside"), limits=Limits(cpu_s=5, wall_s=25))


class Sandbox(Protocol):
    """A way to run untrusted programs."""

    name: str

    def run(self, command: Command, *, kept_bytes: int = ...) -> Outcome:
        """Run one command, isolated from everything and from every other."""


BACKENDS: dict[BackendName, Callable[[], Sandbox]] = {"bubblewrap": Bubblewrap, "landlock": Landlock}
"""The ways to isolate a program, the preferred one first."""


@cache
def open_sandbox(name: BackendName | None = None) -> Sandbox:
    """A backend that has just run a program on this machine.

    Args:
        name: Which; None takes `DFT_SANDBOX`, and where that is unset the first that works.

    Raises:
        SandboxUnavailableError: the one asked for, or every one, does not work here; the message says why and
            what to install.
    """
    asked = name or os.environ.get(CHOICE_VARIABLE) or None
    if asked is not None and asked not in BACKENDS:
        raise SandboxUnavailableError(f"{CHOICE_VARIABLE}={asked!r}; known: {', '.join(BACKENDS)}.")
    reasons = []
    for backend, make in BACKENDS.items():
        if asked in (None, backend):
            try:
                return _tried(make())
            except SandboxUnavailableError as error:
                reasons.append(f"{backend}: {error}")
    raise SandboxUnavailableError(
        "programs cannot be isolated on this machine, so none is run. "
        + " ".join(reasons)
        + f" bubblewrap needs unprivileged user namespaces and: {INSTALL}. Landlock needs root and Linux 6.2 or later."
    )


def _tried(sandbox: Sandbox) -> Sandbox:
    outcome = sandbox.run(_PROBE)
    if outcome.status != "ok" or outcome.returncode != 0 or outcome.stdout != b"inside\n":
        raise SandboxUnavailableError(
            f"a trial program ended with {outcome.status}, return code {outcome.returncode}: "
            f"{outcome.reason} {outcome.stderr[-300:].decode(errors='replace').strip()}"
        )
    return sandbox
