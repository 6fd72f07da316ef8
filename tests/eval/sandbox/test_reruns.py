"""A timeout of either kind counts only when it happens again, with no other rerun under way."""

import fcntl
import threading

import pytest

from dft_eval.languages.base import binary
from dft_eval.sandbox import run
from dft_eval.sandbox.choose import open_sandbox
from dft_eval.sandbox.program import Command, Limits
from dft_eval.sandbox.run import run_command
from dft_eval.tasks.code import python_programs
from dft_eval.tasks.code.python_tester_process import close_testers


class Watched:
    """A real sandbox that notes at each program's start whether a rerun holds the lock.

    Args:
        first: What takes the place of the first command: a machine that is too busy for it.
    """

    name = "watched"

    def __init__(self, first=None):
        self._sandbox, self._first = open_sandbox(), first
        self.was_alone = []

    def run(self, command, **options):
        if "python_tester" not in str(command.argv):  # the tester of Python programs is no program
            self.was_alone.append(_is_locked())
            command, self._first = self._first or command, None
        return self._sandbox.run(command, **options)


def _is_locked():
    with run._lock_path().open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.fixture(autouse=True)
def own_lock(monkeypatch, tmp_path):
    """Other tests of this machine rerun programs too."""
    monkeypatch.setattr(run, "_lock_path", lambda: tmp_path / "lock")


BUSY = Command((binary("python3"), "-I", "-c", "while True: pass"), limits=Limits(cpu_s=0.3, wall_s=60))
WAITING = Command(("/usr/bin/sleep", "1000"), limits=Limits(wall_s=0.5))


@pytest.mark.slow
@pytest.mark.parametrize("command", [BUSY, WAITING], ids=["cpu", "wall"])
def test_a_timeout_is_run_again_alone(command):
    sandbox = Watched()
    assert run_command(sandbox, command).status == "timeout"
    assert sandbox.was_alone == [False, True]
    assert not _is_locked()


@pytest.mark.slow
@pytest.mark.parametrize("first", [BUSY, WAITING], ids=["cpu", "wall"])
def test_a_timeout_that_does_not_happen_again_does_not_count(first):
    sandbox = Watched(first)
    outcome = run_command(sandbox, Command(("/usr/bin/bash", "-c", "echo said")))
    assert (outcome.status, outcome.stdout) == ("ok", b"said\n")
    assert sandbox.was_alone == [False, True]


@pytest.mark.slow
def test_what_is_no_timeout_is_not_run_again():
    sandbox = Watched()
    assert run_command(sandbox, Command(("/usr/bin/false",))).returncode == 1
    assert sandbox.was_alone == [False]


@pytest.mark.slow
@pytest.mark.parametrize("body", ["while True: pass", "__import__('time').sleep(1000)"], ids=["cpu", "wall"])
def test_a_timeout_of_a_python_function_is_run_again_alone(body, monkeypatch):
    sandbox = Watched()
    monkeypatch.setattr(python_programs, "open_sandbox", lambda: sandbox)
    tests = {"mode": "tests", "context": "", "tests": "f()", "entry_point": "f", "check": False}
    limits = Limits(cpu_s=1, wall_s=60 if "while" in body else 2)
    verdicts = python_programs.find_python_verdicts(f"def f():\n    {body}", "f", {"tests": tests}, limits)
    close_testers()
    assert verdicts["tests"].status == "timeout"
    assert sandbox.was_alone == [False, True]


def test_a_rerun_waits_for_the_other_one():
    entered = threading.Event()

    def rerun():
        with run.alone():
            entered.set()

    other = threading.Thread(target=rerun)
    with run.alone():
        other.start()
        assert not entered.wait(0.2)
    other.join()
    assert entered.is_set()
