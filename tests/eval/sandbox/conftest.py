"""Every test of this folder runs under each backend, on the real machine, as root and as an ordinary user."""

import os
import pickle
import shutil
from pathlib import Path

import pytest

from dft_eval.sandbox import cgroup, identity
from dft_eval.sandbox.bubblewrap import Bubblewrap
from dft_eval.sandbox.choose import open_sandbox
from dft_eval.sandbox.promises import broken_promises
from dft_eval.sandbox.supervise import KEPT_OUTPUT_BYTES
from tests.conftest import require
from tests.eval.processes import become_user

BACKENDS = ("bubblewrap", "landlock", "bubblewrap-as-user")
USER_ID = 50_000 + os.getpid() % 10_000  # another one in each worker of the tests


class AsUser:
    """Bubblewrap for a process that is not root: each call is made by a fork that has become one."""

    name = "bubblewrap"

    def call(self, function):
        """What a function returns to an ordinary user."""
        out, into = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                become_user(USER_ID)
                with os.fdopen(into, "wb") as file:
                    pickle.dump(function(), file)
            finally:
                os._exit(0)
        os.close(into)
        with os.fdopen(out, "rb") as file:
            content = file.read()
        os.waitpid(pid, 0)
        return pickle.loads(content)  # our own fork's

    def run(self, command, *, kept_bytes=KEPT_OUTPUT_BYTES):
        return self.call(lambda: Bubblewrap().run(command, kept_bytes=kept_bytes))


@pytest.fixture(params=BACKENDS)
def sandbox(request):
    require("bubblewrap" not in request.param or shutil.which("bwrap") is not None, "bwrap (make toolchains)")
    require(request.param == "bubblewrap" or os.geteuid() == 0, f"root, for {request.param}")
    return AsUser() if request.param == "bubblewrap-as-user" else open_sandbox(request.param)


@pytest.fixture
def promised(sandbox, request):
    """Skips what the backend does not promise to this user, with the reason it states."""
    ask = sandbox.call if isinstance(sandbox, AsUser) else lambda function: function()
    broken = ask(lambda: broken_promises(sandbox.name))
    for name in request.node.get_closest_marker("promise").args:
        if name in broken:
            pytest.skip(f"not promised: {name}: {broken[name]}")


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    """No process of a lent user id, no folder and no control group outlives a test."""
    yield
    first, last = identity.user_ids_of(os.getpid())
    left = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                user_id = folder.stat().st_uid
                if (first <= user_id <= last or user_id == USER_ID) and _state(folder.name) not in ("Z", ""):
                    left.append((folder / "cmdline").read_bytes())
            except OSError:
                continue  # it ended meanwhile
    assert not left
    assert not list(Path("/tmp").glob(f"dft-sandbox-{os.getpid()}-*"))
    for pattern in cgroup.group_globs(os.getpid()):
        parent = Path(pattern).parent
        assert not list(parent.glob(Path(pattern).name))
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    zombies = [pid for pid in children if _state(pid) == "Z"]
    assert not zombies


def _state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
