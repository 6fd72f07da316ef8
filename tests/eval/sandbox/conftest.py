"""Every test of this folder runs under each backend, on the real machine."""

import os
import shutil
from pathlib import Path

import pytest

from dft_eval.sandbox import identity
from dft_eval.sandbox.choose import open_sandbox
from tests.conftest import require

BACKENDS = ("bubblewrap", "landlock")


@pytest.fixture(params=BACKENDS)
def sandbox(request):
    require(request.param != "bubblewrap" or shutil.which("bwrap") is not None, "bwrap (make toolchains)")
    require(request.param != "landlock" or os.geteuid() == 0, "root, for the Landlock backend")
    return open_sandbox(request.param)


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    """No process of a lent user id and no folder outlives a test."""
    yield
    lent = range(identity._FIRST_USER_ID + os.getpid() * 16, identity._FIRST_USER_ID + os.getpid() * 16 + 16)
    left = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if folder.stat().st_uid in lent:
                    left.append((folder / "cmdline").read_bytes())
            except OSError:
                continue  # it ended meanwhile
    assert not left
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    zombies = [pid for pid in children if _state(pid) == "Z"]
    assert not zombies


def _state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
