"""Folders and processes that a sandbox without namespaces leaves on the machine, and their end.

The folders lie in the machine's temporary folder and are named after the process that made them, so that they can be
told from those of others.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from dft_eval.sandbox.cgroup import group_globs
from dft_eval.sandbox.identity import user_ids_of
from dft_eval.sandbox.program import MIB, Limits

FOLDER_PREFIX = "dft-sandbox-"

_REAPER = """
import glob, os, select, subprocess, sys, time
worker, first, last = map(int, sys.argv[1:4])
try:
    select.select([os.pidfd_open(worker)], [], [])
except ProcessLookupError:
    pass
while True:
    left = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            user = os.stat("/proc/" + name).st_uid
            state = open(f"/proc/{name}/stat", "rb").read().rpartition(b")")[2].split()[0]
        except OSError:
            continue
        if first <= user <= last and state not in (b"Z", b"X"):
            left[user] = name
    if not left:
        break
    for user in left:
        subprocess.run(("/usr/bin/bash", "-c", "kill -9 -1"), user=user, group=user, extra_groups=())
folders = glob.glob(sys.argv[4])
if folders:
    subprocess.run(("/usr/bin/rm", "-rf", "--one-file-system", "--", *folders))
for pattern in sys.argv[5:]:
    for group in glob.glob(pattern):
        for _ in range(100):
            try:
                os.rmdir(group)
                break
            except OSError:
                time.sleep(0.05)
"""


def remove_folder(folder: Path) -> None:
    """Remove a folder, however deep the tree in it is."""
    try:
        shutil.rmtree(folder)
    except (OSError, RecursionError):  # deeper than Python walks; `rm` holds no path and no stack
        subprocess.run(("/usr/bin/rm", "-rf", "--one-file-system", "--", str(folder)), check=True)


def is_over(folder: Path, limits: Limits, user_id: int) -> bool:
    """Return True where a folder holds more files or bytes than allowed, or cannot be walked.

    Args:
        folder: The only one that the processes of the user id can write to.
        limits: What is allowed.
        user_id: Whose open files without a name count as well.
    """
    num_files, num_bytes = 0, _unlinked_bytes(user_id)
    unreadable: list[OSError] = []
    try:
        for parent, folders, files in os.walk(folder, onerror=unreadable.append):
            num_files += len(folders) + len(files)
            for name in (*folders, *files):
                with contextlib.suppress(FileNotFoundError):  # it was deleted meanwhile
                    num_bytes += Path(parent, name).lstat().st_blocks * 512
            if num_files > limits.num_files or num_bytes > limits.disk_mib * MIB:
                return True
    except (OSError, RecursionError):
        return True
    return any(not isinstance(error, FileNotFoundError) for error in unreadable)


def _unlinked_bytes(user_id: int) -> int:
    """Bytes of files that have no name any more and are still open."""
    found: dict[tuple[int, int], int] = {}
    for pid in processes_of(user_id):
        with contextlib.suppress(OSError):  # it ended meanwhile
            for entry in os.scandir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    state = Path(entry.path).stat()
                    if state.st_nlink == 0:
                        found[state.st_dev, state.st_ino] = state.st_blocks * 512
    return sum(found.values())


def processes_of(user_id: int) -> list[int]:
    """Ids of all processes of a user id, zombies too."""
    found = []
    with os.scandir("/proc") as entries:  # several times a program, so not by pathlib
        for entry in entries:
            if entry.name.isdigit():
                with contextlib.suppress(OSError):  # it ended meanwhile
                    if entry.stat().st_uid == user_id:
                        found.append(int(entry.name))
    return found


@cache
def start_reaper(worker: int) -> None:
    """Start the process that clears up after a worker of root, however the worker ends.

    Args:
        worker: This process.
    """
    folders = f"{glob.escape(tempfile.gettempdir())}/{FOLDER_PREFIX}{worker}-*"
    arguments = (*map(str, (worker, *user_ids_of(worker))), folders, *group_globs(worker))
    null = subprocess.DEVNULL
    command = ("/usr/bin/setsid", "--fork", sys.executable, "-I", "-c", _REAPER, *arguments)
    subprocess.run(command, check=True, stdin=null, stdout=null, stderr=null)
