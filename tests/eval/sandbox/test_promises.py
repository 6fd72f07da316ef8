"""The conformance suite: each property a sandbox promises, under each backend, as root and as an ordinary user."""

import os
import socket
import sys
import threading

import pytest

from dft_eval.languages.base import binary
from dft_eval.sandbox.program import Command, Limits

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("promised")]

SMALL = Limits(cpu_s=8, wall_s=40, memory_mib=256, num_processes=64, disk_mib=16, num_files=2000)


def run_python(sandbox, source, limits=SMALL, **options):
    return sandbox.run(Command((binary("python3"), "-I", "-c", source), limits=limits, **options))


@pytest.mark.promise("files-learnt")
def test_files_of_the_machine_do_not_exist(sandbox):
    source = f"import os\nprint([p for p in ('/root', '/home', '/var', {sys.prefix!r}, '/proc/1/root') if os.path.exists(p)])"  # noqa: E501
    assert run_python(sandbox, source).stdout == b"[]\n"


@pytest.mark.promise("network")
def test_only_usual_socket_families_can_be_made(sandbox):
    source = """
import socket
for family in range(46):
    for kind in (1, 2, 3, 5):
        try: socket.socket(family, kind); print(family)
        except OSError: pass
        try: socket.socketpair(family, kind); print(family)
        except OSError: pass
"""
    outcome = run_python(sandbox, source)
    assert outcome.returncode == 0
    assert set(outcome.stdout.split()) <= {b"1", b"2", b"10"}


@pytest.mark.promise("unix-sockets")
def test_sockets_of_the_machine_hear_nothing(sandbox, tmp_path):
    name = f"\0dft-promise-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as abstract:
        abstract.bind(name)
        abstract.setblocking(False)
        source = f"""
import array, os, socket
for kind in (1, 2, 5):
    try: pair = socket.socketpair(socket.AF_UNIX, kind)
    except OSError: continue
    for send in (lambda s: s.sendto(b'x', {name!r}), lambda s: s.connect({name!r}),
                 lambda s: s.sendmsg([b'x'], [(1, 1, array.array('i', [1]))], 0, {name!r})):
        try: send(pair[0])  # where the kernel ignores the name, the pair's other end gets it
        except OSError: pass
print('tried')
"""
        assert run_python(sandbox, source).stdout == b"tried\n"
        with pytest.raises(BlockingIOError):
            abstract.recv(1)


@pytest.mark.promise("processes-seen")
def test_process_1_shows_nothing_in_proc(sandbox):
    source = """
import os
print([p for p in os.listdir('/proc') if p.isdigit() and p != '1' and p != str(os.getpid())])
for name in ('mem', 'fd', 'fd/0', 'environ', 'root', 'cwd', 'maps', 'task/1/mem', 'task/1/fd'):
    try: os.open('/proc/1/' + name, os.O_RDONLY); print('OPENED', name)
    except OSError: pass
"""
    assert run_python(sandbox, source).stdout == b"[]\n"


@pytest.mark.promise("signals")
def test_process_1_and_the_supervisor_can_be_neither_signalled_nor_written_to(sandbox):
    source = f"""
import os, signal
for pid in (1, {os.getpid()}, os.getppid()):
    for name in ('mem', 'fd/1', 'fd/0'):
        try: os.open(f'/proc/{{pid}}/{{name}}', os.O_RDWR); print('OPENED', pid, name)
        except OSError: pass
for number in (signal.SIGSTOP, signal.SIGKILL):
    try: os.kill({os.getpid()}, number); print('SIGNALLED')
    except OSError: pass
print('alive')
"""
    assert run_python(sandbox, source).stdout == b"alive\n"


@pytest.mark.promise("devices")
def test_devices_are_the_five_harmless_ones(sandbox):
    source = """
import os, stat
for folder in ('/dev', '/dev/pts', '/dev/shm', '/dev/mapper', '/dev/block'):
    try: names = os.listdir(folder)
    except OSError: names = ['tty', 'kmsg', 'mem', 'kvm', 'fuse', 'ptmx', 'vsock', 'sda', 'vda', 'loop0']
    for name in names:
        try:
            fd = os.open(f'{folder}/{name}', os.O_RDONLY | os.O_NONBLOCK)
            if stat.S_ISCHR(os.fstat(fd).st_mode) or stat.S_ISBLK(os.fstat(fd).st_mode): print(name)
        except OSError: pass
"""
    assert set(run_python(sandbox, source).stdout.split()) <= {b"null", b"zero", b"full", b"random", b"urandom"}


@pytest.mark.promise("kernel-tables")
def test_tables_of_the_kernel_are_hidden(sandbox):
    source = """
for name in ('cmdline', 'config.gz', 'kallsyms', 'kcore', 'key-users', 'keys', 'kmsg', 'locks', 'modules',
             'timer_list', 'partitions', 'diskstats', 'interrupts', 'sysrq-trigger'):
    try: print(name, len(open('/proc/' + name, 'rb').read(10)))
    except OSError: pass
"""
    assert run_python(sandbox, source).stdout == b""


@pytest.mark.promise("kernel-tables")
def test_mounts_and_sockets_listed_are_not_the_machines(sandbox, tmp_path):
    name = f"dft-listed-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listed:
        listed.bind(f"\0{name}")
        source = """
for path in ('/proc/self/net/unix', '/proc/net/unix', '/proc/self/mountinfo', '/proc/self/task/{0}/net/unix'):
    try: print(open(path.format(__import__('os').getpid())).read())
    except OSError: pass
"""
        told = run_python(sandbox, source).stdout.decode()
    assert name not in told
    assert "cgroup" not in told


@pytest.mark.promise("memory-shared")
def test_shared_memory_is_bounded_when_its_pages_are_not_mapped(sandbox):
    source = """
import mmap, time
kept = []
for _ in range(24):
    m = mmap.mmap(-1, 64 << 20)
    for offset in range(0, 64 << 20, 4096): m[offset] = 1
    m.madvise(mmap.MADV_DONTNEED)
    kept.append(m)
time.sleep(5)
"""
    assert run_python(sandbox, source).status == "oom"


@pytest.mark.promise("memory-kernel")
def test_socket_buffers_are_bounded(sandbox):
    source = """
import os, socket, time
for _ in range(30):
    if os.fork() == 0:
        kept = []
        try:
            while True:
                pair = socket.socketpair()
                pair[0].setblocking(False)
                kept.append(pair)
                try:
                    while True: pair[0].send(b'x' * 65536)
                except BlockingIOError: pass
        except OSError: time.sleep(20)
time.sleep(20)
"""
    assert run_python(sandbox, source).status == "oom"


@pytest.mark.promise("memory-tables")
def test_page_tables_are_bounded(sandbox):
    source = """
import mmap, time
m = mmap.mmap(-1, 400 << 30, flags=mmap.MAP_PRIVATE | 0x4000, prot=mmap.PROT_READ)
m.madvise(15)  # no huge pages
for offset in range(0, 400 << 30, 2 << 20): m[offset]
time.sleep(5)
"""
    assert run_python(sandbox, source).status == "oom"


@pytest.mark.promise("cpu", "cpu-unwaited")
def test_short_processes_that_nobody_waits_for_are_counted(sandbox):
    source = """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    if os.fork() == 0:
        while time.process_time() < 0.03: pass
        os._exit(0)
    try: os.wait()  # with SIGCHLD ignored it returns when all have ended, and tells nothing of them
    except ChildProcessError: pass
"""
    outcome = run_python(sandbox, source, Limits(cpu_s=1, wall_s=60, memory_mib=1024))
    assert outcome.status == "timeout"
    assert "CPU-s" in outcome.reason
    assert outcome.cpu_s < 3


@pytest.mark.promise("processes")
def test_processes_are_bounded(sandbox):
    source = """
import os, time
num = 0
try:
    while num < 300:
        if os.fork() == 0: time.sleep(30); os._exit(0)
        num += 1
except OSError: pass
print(num, flush=True)
os._exit(0)
"""
    assert int(run_python(sandbox, source, Limits(cpu_s=8, wall_s=40, num_processes=64)).stdout) <= 64


@pytest.mark.promise("disk")
@pytest.mark.parametrize(
    "source",
    [
        "for i in range(30):\n    f = open('a', 'wb'); kept = globals().setdefault('kept', []); kept.append(f)\n"
        "    os.unlink('a'); f.write(b'x' * (4 << 20)); f.flush(); time.sleep(0.05)",
        "for i in range(40):\n    for j in range(50): os.mkdir(('%03d' % j) + 'n' * 200)\n"
        "    os.chdir('000' + 'n' * 200)",
        "for i in range(3000):\n    os.mkdir('d'); os.chdir('d')",
    ],
    ids=["unlinked", "long-names", "deep"],
)
def test_disk_is_bounded_and_cleared(sandbox, source):
    outcome = run_python(sandbox, f"import os, time\n{source}\ntime.sleep(1)", may_write=True)
    assert outcome.status == "disk_limit" or outcome.returncode != 0
    assert outcome.status != "infra_error"


@pytest.mark.promise("wall-time", "output")
@pytest.mark.parametrize("target", ["/proc/self/fd/1", "/dev/fd/1"])
def test_output_taken_back_by_the_program_holds_nobody_up(sandbox, target):
    source = f"""
import os, threading
try: fd = os.open({target!r}, os.O_RDONLY | os.O_NONBLOCK)
except OSError: raise SystemExit(0)  # cannot even be opened
def write():
    while True: os.write(1, b'x')
threading.Thread(target=write, daemon=True).start()
while True:
    try: os.read(fd, 65536)
    except BlockingIOError: pass
"""
    outcome = run_python(sandbox, source, Limits(cpu_s=2, wall_s=4, memory_mib=256))
    assert outcome.wall_s < 20


@pytest.mark.promise("leaves-nothing")
def test_a_needless_program_is_ended(sandbox):
    if hasattr(sandbox, "call"):
        pytest.skip("the fork that became an ordinary user holds the other end too")
    is_needed, needs = os.pipe()
    timer = threading.Timer(0.5, os.close, (needs,))
    timer.start()
    outcome = sandbox.run(Command(("/usr/bin/sleep", "1000"), until=is_needed))
    timer.join()
    os.close(is_needed)
    assert outcome.returncode == 137
