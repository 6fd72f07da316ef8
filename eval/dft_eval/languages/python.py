"""Python: the machine's own interpreter below /usr, with NumPy, since programs import it."""

from __future__ import annotations

from functools import cache

from dft_eval.languages.base import find_binary, version_of
from dft_eval.prerequisites import Missing
from dft_eval.sandbox.choose import open_sandbox
from dft_eval.sandbox.program import Command

INSTALL = "apt-get install -y --no-install-recommends python3 python3-numpy"

_PROBE = "import numpy; print(numpy.__version__)"


def missing() -> tuple[Missing, ...]:
    """Return the tools that must be installed first; asks the interpreter inside the sandbox."""
    if find_binary("python3") is None:
        return (Missing("python3 below /usr", INSTALL),)
    if not _numpy_version():
        return (Missing("numpy for python3 below /usr", INSTALL),)
    return ()


def fingerprint() -> dict[str, str]:
    """Versions of the interpreter and of NumPy."""
    return {"python": version_of(("python3", "--version")), "numpy": _numpy_version()}


@cache
def _numpy_version() -> str:
    path = find_binary("python3")
    if path is None:
        return ""
    outcome = open_sandbox().run(Command((path, "-I", "-c", _PROBE)))
    return outcome.stdout.decode().strip() if outcome.returncode == 0 else ""
