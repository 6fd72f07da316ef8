"""Runs a command and, where it timed out, runs it once more while no other rerun of this machine is under way."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dft_eval.sandbox.choose import Sandbox
from dft_eval.sandbox.program import Command, Outcome
from dft_eval.sandbox.supervise import KEPT_OUTPUT_BYTES


def run_command(sandbox: Sandbox, command: Command, *, kept_bytes: int = KEPT_OUTPUT_BYTES) -> Outcome:
    """Run a command; a timeout counts only when it happens again with no other rerun under way.

    Limits are in CPU time, so a busy machine rarely matters; what is left are programs that wait. The lock is one
    file a user, so reruns of all worker processes of all runs of this user on this machine go one after the other.

    Args:
        sandbox: Where.
        command: What.
        kept_bytes: Most bytes kept of each output stream.
    """
    outcome = sandbox.run(command, kept_bytes=kept_bytes)
    if outcome.status != "timeout":
        return outcome
    with alone():
        return sandbox.run(command, kept_bytes=kept_bytes)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """No other rerun of this user on this machine is under way meanwhile."""
    fd = os.open(_lock_path(), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _lock_path() -> Path:
    return Path(tempfile.gettempdir()) / f"dft-serial-reruns-{os.geteuid()}.lock"
