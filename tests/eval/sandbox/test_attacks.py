"""Attacks by calls that few programs know of: the machine's queues and mounts, stops, limits, files without a name."""

import ctypes
import struct

import pytest

from dft_eval.languages.base import binary
from dft_eval.sandbox.program import Command, Limits

pytestmark = pytest.mark.slow

SMALL = Limits(cpu_s=2, wall_s=20, memory_mib=256, num_processes=64, disk_mib=16, output_mib=4)
IPC_PRIVATE, IPC_NOWAIT, IPC_RMID, GETVAL, SETVAL = 0, 0o4000, 0, 12, 16
CALL = "import ctypes, os, signal, struct, time\nlibc = ctypes.CDLL(None, use_errno=True)\n"

libc = ctypes.CDLL(None, use_errno=True)


def run_python(sandbox, source, limits=SMALL, **options):
    return sandbox.run(Command((binary("python3"), "-I", "-c", CALL + source), limits=limits, **options))


@pytest.fixture
def queue_and_semaphore():
    """Both may be used by anybody on this machine."""
    queue, semaphore = libc.msgget(IPC_PRIVATE, 0o666), libc.semget(IPC_PRIVATE, 1, 0o666)
    assert min(queue, semaphore) >= 0
    yield queue, semaphore
    libc.msgctl(queue, IPC_RMID, None)
    libc.semctl(semaphore, 0, IPC_RMID)


@pytest.mark.usefixtures("promised")
@pytest.mark.promise("ipc")
def test_queues_and_semaphores_of_the_machine_are_out_of_reach(sandbox, queue_and_semaphore):
    queue, semaphore = queue_and_semaphore
    source = f"""
message = struct.pack('=q8s', 1, b'leaked')
libc.msgsnd({queue}, message, 8, {IPC_NOWAIT})
libc.semctl({semaphore}, 0, {SETVAL}, 7)
libc.semop({semaphore}, struct.pack('=Hhh', 0, 1, {IPC_NOWAIT}), 1)
print('tried')
"""
    assert run_python(sandbox, source).stdout == b"tried\n"
    assert libc.msgrcv(queue, ctypes.create_string_buffer(16), 8, 0, IPC_NOWAIT) == -1
    assert libc.semctl(semaphore, 0, GETVAL) == 0


@pytest.mark.usefixtures("promised")
@pytest.mark.promise("kernel-tables", "calls")
def test_mounts_cannot_be_listed_by_new_calls(sandbox):
    source = """
request = struct.pack('=IIQQ', 24, 0, 2**64 - 1, 0)
print(libc.syscall(458, request, (ctypes.c_uint64 * 512)(), ctypes.c_size_t(512), 0), ctypes.get_errno())
print({(libc.syscall(number, 0, 0, 0, 0, 0, 0), ctypes.get_errno()) for number in range(450, 512)})
"""
    assert run_python(sandbox, source).stdout == b"-1 38\n{(-1, 38)}\n"


@pytest.mark.usefixtures("promised")
@pytest.mark.promise("wall-time")
@pytest.mark.parametrize(
    "source",
    [
        "os.kill(os.getpid(), signal.SIGSTOP)",
        "if os.fork() == 0:\n    os.setsid()\n    os.kill(os.getppid(), signal.SIGSTOP)\n"
        "    os.kill(-1, signal.SIGSTOP)\n"
        "time.sleep(1000)",
        "libc.prctl(36, 1, 0, 0, 0); libc.prctl(1, 0, 0, 0, 0)\nif os.fork(): os.kill(os.getpid(), signal.SIGSTOP)\n"
        "time.sleep(1000)",
    ],
    ids=["itself", "everybody", "reaper-of-its-own"],
)
def test_stopped_programs_end(sandbox, source):
    outcome = run_python(sandbox, source, Limits(wall_s=1))
    assert outcome.status == "timeout"
    assert outcome.wall_s < 15


@pytest.mark.usefixtures("promised")
@pytest.mark.promise("leaves-nothing")
def test_a_daemon_that_hides_its_memory_does_not_outlive_its_program(sandbox):
    source = """
if os.fork() == 0:
    os.setsid()
    for option, value in ((4, 0), (36, 1), (1, 0)):  # not dumpable, reaper of its own, no signal when its parent ends
        libc.prctl(option, value, 0, 0, 0)
    if os.fork(): os._exit(0)
    libc.prctl(4, 0, 0, 0, 0)
    time.sleep(1000)
"""
    assert run_python(sandbox, source).wall_s < 15  # the fixture looks for what is left


@pytest.mark.usefixtures("promised")
@pytest.mark.promise("output")
@pytest.mark.parametrize("source", ["os.splice(zero, 1, 1 << 20)", "os.sendfile(1, zero, 0, 1 << 20)"])
def test_output_that_the_kernel_copies_is_bounded(sandbox, source):
    outcome = run_python(sandbox, f"zero = os.open('/dev/zero', os.O_RDONLY)\nwhile True: {source}")
    assert outcome.status == "output_limit"


@pytest.mark.usefixtures("promised")
@pytest.mark.promise("memory", "cpu", "processes")
def test_limits_and_priorities_cannot_be_raised(sandbox):
    source = """
import resource
for name in ('DATA', 'CPU', 'FSIZE', 'NPROC', 'NOFILE', 'STACK', 'CORE', 'MEMLOCK', 'NICE', 'RTPRIO'):
    kind = getattr(resource, 'RLIMIT_' + name, {'NICE': 13, 'RTPRIO': 14}.get(name))
    hard = resource.getrlimit(kind)[1]
    try: resource.setrlimit(kind, (hard + 1, hard + 1)); print('RAISED', name)
    except (OSError, ValueError): pass
for attempt in (lambda: os.nice(-1), lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))):
    try: attempt(); print('RAISED')
    except OSError: pass
print(resource.getrlimit(resource.RLIMIT_CORE))
"""
    assert run_python(sandbox, source).stdout == b"(1, 1)\n"


@pytest.mark.usefixtures("promised")
@pytest.mark.promise("disk")
def test_files_that_never_had_a_name_are_bounded(sandbox):
    source = """
kept = []
for _ in range(40):
    kept.append(os.open('.', os.O_TMPFILE | os.O_RDWR, 0o600))
    os.write(kept[-1], b'x' * (1 << 20))
time.sleep(2)
"""
    outcome = run_python(sandbox, source, may_write=True)
    assert outcome.status == "disk_limit" or outcome.returncode != 0
    assert outcome.status != "infra_error"


def test_a_message_of_the_machine_is_what_this_file_thinks_it_is(queue_and_semaphore):
    """Without a sandbox the very same calls get through."""
    queue, semaphore = queue_and_semaphore
    assert libc.msgsnd(queue, struct.pack("=q8s", 1, b"leaked"), 8, IPC_NOWAIT) == 0
    assert libc.semctl(semaphore, 0, SETVAL, 7) == 0
    assert libc.msgrcv(queue, ctypes.create_string_buffer(16), 8, 0, IPC_NOWAIT) == 8
    assert libc.semctl(semaphore, 0, GETVAL) == 7
