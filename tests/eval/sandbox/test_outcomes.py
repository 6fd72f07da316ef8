"""What a sandbox says of programs that mean no harm."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from dft_eval.languages.base import binary
from dft_eval.sandbox.program import ArtifactError, Command, Limits, collecting, read_artifacts

PYTHON = (binary("python3"), "-I", "a.py")


def run_python(sandbox, source, **options):
    return sandbox.run(Command(PYTHON, {"a.py": source.encode()}, **options))


def test_output_and_return_code_come_back(sandbox):
    outcome = run_python(sandbox, "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)")
    assert (outcome.status, outcome.returncode, outcome.stdout, outcome.stderr) == ("ok", 7, b"out\n", b"err\n")


def test_a_signal_is_128_and_its_number(sandbox):
    assert run_python(sandbox, "import os; os.abort()").returncode == 134


def test_stdin_is_read(sandbox):
    big = b"x" * 300_000
    outcome = sandbox.run(Command(("/usr/bin/wc", "-c"), stdin=big))
    assert outcome.stdout.strip() == b"300000"


def test_a_program_that_never_reads_its_input_ends(sandbox):
    assert sandbox.run(Command(("/usr/bin/true",), stdin=b"x" * 1_000_000)).returncode == 0


def test_a_program_that_is_not_there_is_an_answer_about_the_program_or_the_sandbox_never_a_pass(sandbox):
    outcome = sandbox.run(Command(("/usr/bin/no-such-program",)))
    assert outcome.status == "infra_error" or outcome.returncode != 0


def test_cpu_time_is_counted_with_children(sandbox):
    busy = "import os, time\nif os.fork() == 0:\n    while time.process_time() < 0.5: pass\n    os._exit(0)\nos.wait()"
    assert 0.4 < run_python(sandbox, busy).cpu_s < 2


def test_what_a_compiler_leaves_comes_back(sandbox):
    argv = collecting(("/usr/bin/bash", "-c", "echo one > a.o; echo two > b.o; echo said"), "*.o")
    outcome = sandbox.run(Command(argv, may_write=True))
    assert outcome.stderr == b"said\n"
    assert read_artifacts(outcome.stdout) == {"a.o": b"one\n", "b.o": b"two\n"}


def test_a_symlink_is_no_artifact(sandbox):
    argv = collecting(("/usr/bin/ln", "-s", "/etc/passwd", "a.o"), "a.o")
    with pytest.raises(ArtifactError, match="plain files"):
        read_artifacts(sandbox.run(Command(argv, may_write=True)).stdout)


def test_only_the_first_and_last_output_is_kept(sandbox):
    outcome = sandbox.run(Command(("/usr/bin/seq", "100000")), kept_bytes=100)
    assert outcome.stdout.startswith(b"1\n2\n")
    assert outcome.stdout.endswith(b"\n100000\n")
    assert len(outcome.stdout) == 100


def test_limits_are_those_asked_for(sandbox):
    outcome = sandbox.run(Command(("/usr/bin/sleep", "60"), limits=Limits(wall_s=1)))
    assert outcome.status == "timeout"
    assert outcome.wall_s < 10


def test_sandboxes_in_threads_do_not_close_each_others_files(sandbox):
    """A descriptor closed twice hits whatever another thread has opened meanwhile, and hangs it."""
    command = Command(("/usr/bin/bash", "-c", "echo said"), limits=Limits(cpu_s=5, wall_s=60))
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda _: sandbox.run(command), range(60)))
    assert {(outcome.status, outcome.stdout) for outcome in outcomes} == {("ok", b"said\n")}
