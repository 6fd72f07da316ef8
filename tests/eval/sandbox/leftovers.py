"""Processes, folders and control groups that a worker has made and that are still there."""

import time
from pathlib import Path

from dft_eval.sandbox import cgroup, identity

LEFT_WITHIN_S = 10.0


def left_of(process):
    """Processes under the user ids that a process lends, its folders and its control groups."""
    first, last = identity.user_ids_of(process)
    found = [str(path) for path in Path("/tmp").glob(f"dft-sandbox-{process}-*")]
    for pattern in cgroup.group_globs(process):
        found += map(str, Path(pattern).parent.glob(Path(pattern).name))
    return found + processes_of_users(first, last)


def processes_of_users(first, last):
    """Id and command line of each process of these user ids that has not ended."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if first <= folder.stat().st_uid <= last and state not in ("Z", "X"):
                found.append(f"{folder.name} {(folder / 'cmdline').read_bytes()!r}")
        except OSError:
            continue  # it ended meanwhile
    return found


def wait_until_empty(find):
    """What is still found when the time is over; empty as soon as nothing is."""
    deadline = time.monotonic() + LEFT_WITHIN_S
    while (left := find()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left
