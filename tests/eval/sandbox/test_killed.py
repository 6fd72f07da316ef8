"""SIGKILL of what runs a program: nothing of ours is left ten seconds later, at whatever moment it came."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.eval.processes import processes_with
from tests.eval.sandbox.leftovers import left_of, wait_until_empty

pytestmark = pytest.mark.slow

WORKER = """
import os, sys
from dft_eval.languages.base import binary
from dft_eval.sandbox.choose import open_sandbox
from dft_eval.sandbox.program import Command
sandbox = open_sandbox(sys.argv[1])
source = "import os, time\\nfor _ in '12': os.fork() or os.setsid()\\ntime.sleep(1000)"
print(os.getpid(), flush=True)
while True:
    sandbox.run(Command((binary("python3"), "-I", "-c", source), {"a": b"x"}, may_write=True))
"""
TASK = "multipl_e/sh"


@pytest.fixture(autouse=True)
def orphans_are_reaped():
    """What a killed worker leaves falls to this process, which a sandbox has made the reaper of orphans."""
    yield
    for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split():
        if "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]:
            os.waitpid(int(pid), os.WNOHANG)


@pytest.mark.promise("leaves-nothing")
@pytest.mark.parametrize("backend", ["bubblewrap", "landlock"])
@pytest.mark.parametrize("seed", range(3))
def test_a_killed_worker_leaves_nothing(backend, seed):
    if os.geteuid() != 0:
        pytest.skip("root, for user ids of its own")
    with subprocess.Popen((sys.executable, "-c", WORKER, backend), stdout=subprocess.PIPE) as worker:
        assert int(worker.stdout.readline()) == worker.pid
        time.sleep(random.Random(seed).uniform(0.0, 1.0))
        worker.kill()
    assert wait_until_empty(lambda: left_of(worker.pid)) == []


@pytest.mark.parametrize("backend", ["bubblewrap", "landlock"])
def test_a_killed_scoring_leaves_nothing(backend, data_dir, tmp_path):
    """Programs that sleep are being judged by two workers when the main process is killed."""
    record = {"sample_id": "HumanEval_23_strlen", "completion": "    sleep 1000\n}\n"}
    samples = tmp_path / "samples.jsonl"
    samples.write_text("".join(json.dumps(record | {"repeat": i}) + "\n" for i in range(8)))
    mark = f"DFT_KILLED_TEST={os.getpid()}{backend}"
    environment = dict(os.environ) | {"DFT_SANDBOX": backend, "DFT_DATA_DIR": str(data_dir)}
    name, value = mark.split("=")
    dft = str(Path(sys.executable).with_name("dft"))
    command = (dft, "eval", "score", "--task", TASK, "--samples", str(samples))
    with subprocess.Popen(
        (*command, "--out", str(tmp_path / "run")), env=environment | {name: value}, stderr=subprocess.DEVNULL
    ) as scoring:
        deadline = time.monotonic() + 120
        while not sleeping() and time.monotonic() < deadline and scoring.poll() is None:
            time.sleep(0.05)
        workers = [int(pid) for pid in processes_with(mark)]
        assert sleeping(), "no program was started"
        scoring.send_signal(signal.SIGKILL)
    assert wait_until_empty(lambda: processes_with(mark)) == []
    assert wait_until_empty(lambda: [entry for worker in workers for entry in left_of(worker)]) == []
    assert wait_until_empty(sleeping) == []


def sleeping():
    return [path for path in Path("/proc").glob("[0-9]*/cmdline") if read(path) == b"sleep\0" + b"1000\0"]


def read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""
