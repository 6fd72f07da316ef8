"""What a killed command leaves running."""

import os
import time
from pathlib import Path

from dft_eval.sandbox import cgroup


def become_user(user_id: int) -> None:
    """Make this process one of an ordinary user, for good."""
    os.setgroups([])
    os.setresgid(user_id, user_id, user_id)
    os.setresuid(user_id, user_id, user_id)
    cgroup._parents.cache_clear()  # root's answer is not this user's


def processes_with(variable):
    """Ids of the processes whose environment holds `NAME=value`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if variable.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def wait_until_gone(mark: str, limit_s: float = 30.0) -> None:
    """Wait for the last process with that environment variable; a process that stays is a failure."""
    deadline = time.monotonic() + limit_s
    while (found := processes_with(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not found, f"still there after {limit_s:.0f} s: {found}"
