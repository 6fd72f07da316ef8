"""Programs that attack the machine, the other programs and their own verdict: none gets anywhere."""

import os
import socket
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from dft_eval.languages.base import binary
from dft_eval.sandbox.program import Command, Limits, collecting

pytestmark = pytest.mark.slow

SHORT = Limits(cpu_s=2, wall_s=8, memory_mib=512, disk_mib=16, output_mib=4, num_files=2000, num_processes=64)
ENDLESS = replace(SHORT, cpu_s=0.5, wall_s=3)
CPU_BOUND = replace(SHORT, cpu_s=0.5, wall_s=60)
"""For programs that nothing but a limit ends."""

SECRET = "the-secret-of-this-machine"


def run_python(sandbox, source, limits=SHORT, **options):
    return sandbox.run(Command((binary("python3"), "-I", "a.py"), {"a.py": source.encode()}, limits=limits, **options))


def compile_c(sandbox, source):
    argv = collecting((binary("g++"), "-x", "c", "-w", "a.c", "-o", "a.out"), "a.out")
    return sandbox.run(Command(argv, {"a.c": source.encode()}, limits=Limits(cpu_s=20), may_write=True))


@pytest.fixture
def secret(tmp_path_factory):
    """A file anybody on this machine can read."""
    folder = Path("/tmp/dft-hostile-test") / str(os.getpid())
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    file = folder / "secret"
    file.write_text(SECRET)
    file.chmod(0o644)
    yield file
    file.unlink()
    folder.rmdir()


@pytest.mark.parametrize(
    "source",
    [
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
        "import os, time\nfor _ in range(1000):\n    try: os.fork()\n    except OSError: pass\ntime.sleep(1000)",
        "import threading, time\nwhile True:\n    try: threading.Thread(target=time.sleep, args=(99,)).start()\n"
        "    except RuntimeError: pass",
    ],
    ids=["fork-bomb", "sleeping-forks", "thread-bomb"],
)
def test_process_bombs_end(sandbox, source):
    outcome = run_python(sandbox, source, ENDLESS)
    assert outcome.status in ("timeout", "oom")
    assert outcome.wall_s < 30


@pytest.mark.promise("memory")
@pytest.mark.parametrize(
    "source",
    [
        "x = []\nwhile True: x.append(bytearray(10**7))",
        "import mmap\nx = []\nwhile True:\n    m = mmap.mmap(-1, 10**8)\n    m.write(b'x' * 10**8)\n    x.append(m)",
        "import os\nfor _ in range(20):\n    if os.fork() == 0:\n        x = bytearray(10**8)\n        while True: pass\n"  # noqa: E501
        "while True: pass",
    ],
    ids=["heap", "shared-memory", "many-processes"],
)
def test_memory_bombs_end(sandbox, source):
    outcome = run_python(sandbox, source, Limits(cpu_s=10, wall_s=30, memory_mib=512))
    assert outcome.status == "oom" or b"MemoryError" in outcome.stderr


@pytest.mark.parametrize(
    "source",
    ["while True: print('x' * 1000)", "import os\nwhile True: os.write(2, b'x' * 65536)"],
    ids=["print", "raw-fd"],
)
def test_endless_output_ends(sandbox, source):
    assert run_python(sandbox, source).status == "output_limit"


def test_time_is_limited(sandbox):
    assert run_python(sandbox, "while True: pass", CPU_BOUND).status == "timeout"
    assert run_python(sandbox, "import time; time.sleep(1000)", Limits(wall_s=1)).status == "timeout"


@pytest.mark.promise("cpu")
def test_a_busy_loop_that_ignores_signals_ends(sandbox):
    source = (
        "import signal\nfor s in range(1, 60):\n    try: signal.signal(s, signal.SIG_IGN)\n    except OSError: pass\n"
    )
    assert run_python(sandbox, source + "while True: pass", CPU_BOUND).status == "timeout"


def test_reading_dev_zero_ends(sandbox):
    command = Command(("/usr/bin/bash", "-c", "cat </dev/zero >/dev/null"), limits=CPU_BOUND)
    assert sandbox.run(command).status == "timeout"


@pytest.mark.promise("files-written")
def test_nothing_of_the_host_can_be_written(sandbox, secret):
    targets = ["/usr/x", "/etc/x", "/var/tmp/x", "/dev/shm/x", str(secret), str(secret.parent / "x"), "/x", "/root/x"]
    source = (
        f"for path in {targets!r}:\n    try: open(path, 'w').write('x'); print('WROTE', path)\n    except OSError: pass"
    )
    assert run_python(sandbox, source).stdout == b""
    assert secret.read_text() == SECRET
    assert not any(Path(path).exists() for path in targets if path != str(secret))


@pytest.mark.promise("files-read")
def test_secrets_cannot_be_read(sandbox, secret):
    source = f"""
import os
for path in ["{secret}", "/proc/1/root{secret}", "/proc/self/root{secret}", "/proc/self/cwd/../../..{secret}",
             "/etc/shadow", "/etc/passwd", "/root", "/home", "/var/log"]:
    try: print('READ', open(path).read() if not os.path.isdir(path) else os.listdir(path))
    except OSError: pass
try:
    os.symlink("{secret}", "link"); print('READ', open("link").read())
except OSError: pass
"""
    assert b"READ" not in run_python(sandbox, source).stdout
    assert b"READ" not in run_python(sandbox, source, may_write=True).stdout


def test_the_environment_is_empty_of_secrets(sandbox, monkeypatch):
    monkeypatch.setenv("API_KEY", SECRET)
    source = "import os, glob\nprint(dict(os.environ))\nfor p in glob.glob('/proc/*/environ') + ['/proc/1/environ']:\n"
    source += "    try: print(open(p, 'rb').read())\n    except OSError: pass"
    outcome = run_python(sandbox, source)
    assert b"PATH" in outcome.stdout
    assert SECRET.encode() not in outcome.stdout


@pytest.mark.promise("network")
def test_the_network_is_out_of_reach(sandbox):
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        name = f"\0dft-hostile-{os.getpid()}"
        unix.bind(name)
        unix.listen()
        port = tcp.getsockname()[1]
        source = f"""
import socket
for family, address in ((socket.AF_INET, ('127.0.0.1', {port})), (socket.AF_UNIX, {name!r})):
    try:
        with socket.socket(family) as s: s.connect(address); print('CONNECTED')
    except OSError as error: print(type(error).__name__)
"""
        outcome = run_python(sandbox, source)
    assert outcome.returncode == 0
    assert b"CONNECTED" not in outcome.stdout


@pytest.mark.promise("signals")
def test_other_processes_cannot_be_killed(sandbox):
    with subprocess.Popen(("/usr/bin/sleep", "100")) as victim:
        source = f"import os\nfor pid in ({victim.pid}, {os.getpid()}, -1):\n"
        source += "    try: os.kill(pid, 9); print('KILLED', pid)\n    except OSError: pass"
        run_python(sandbox, source)
        assert victim.poll() is None
        victim.kill()


def test_two_sandboxes_at_once_do_not_meet(sandbox):
    outcomes = []
    patient = threading.Thread(
        target=lambda: outcomes.append(run_python(sandbox, "import time; time.sleep(2); print('alive')"))
    )
    patient.start()
    for _ in range(5):
        run_python(sandbox, "import os\ntry: os.kill(-1, 9)\nexcept OSError: pass")
    patient.join()
    assert outcomes[0].stdout == b"alive\n"


@pytest.mark.promise("leaves-nothing")
def test_a_daemon_does_not_outlive_its_program(sandbox):
    source = (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(1000)\n    os._exit(0)"
    )
    outcome = run_python(sandbox, source)
    assert outcome.wall_s < 5  # the fixture looks for what is left


@pytest.mark.parametrize("may_write", [False, True])
def test_disks_do_not_fill(sandbox, may_write):
    huge = "f = open('big', 'wb')\nwhile True: f.write(b'x' * 10**6)"
    outcome = run_python(sandbox, huge, may_write=may_write)
    assert outcome.status != "ok" or outcome.returncode != 0
    many = "import itertools\nfor i in itertools.count(): open(f'f{i}', 'w').close()"
    outcome = run_python(sandbox, many, may_write=may_write)
    assert outcome.status in ("disk_limit", "timeout") or outcome.returncode != 0
    sums = "for i in range(100): open(f'f{i}', 'wb').write(b'x' * 10**6)\nimport time; time.sleep(1)"
    outcome = run_python(sandbox, sums, may_write=may_write)
    assert outcome.status != "ok" or outcome.returncode != 0


def test_proc_gives_no_way_out(sandbox):
    source = """
import os
for path in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/self/oom_score_adj", "/proc/1/mem",
             "/proc/self/uid_map", "/sys/fs/cgroup/x", "/proc/sys/kernel/hostname"):
    try:
        with open(path, "w") as f: f.write("-1000")
        print("WROTE", path)
    except OSError: pass
for pid in (1, os.getppid()):
    try: print("LISTED", os.listdir(f"/proc/{pid}/root/root"))
    except OSError: pass
"""
    outcome = run_python(sandbox, source)
    assert outcome.stdout == b""


@pytest.mark.promise("calls")
def test_dangerous_system_calls_are_denied(sandbox):
    calls = {"ptrace": 101, "bpf": 321, "io_uring_setup": 425, "unshare": 272, "mount": 165, "setns": 308,
             "process_vm_writev": 311, "userfaultfd": 323, "keyctl": 250, "memfd_create": 319, "shmget": 29,
             "perf_event_open": 298, "pidfd_getfd": 438, "open_by_handle_at": 304}  # fmt: skip
    checks = "".join(
        f'errno = 0; r = syscall({number}, 0, 0, 0, 0, 0, 0); if (r != -1 || errno != EPERM) puts("{name}");\n'
        for name, number in calls.items()
    )
    source = f"""
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>
#include <sys/ioctl.h>
int main() {{ long r; {checks}
  r = syscall(435, 0, 0); if (r != -1 || errno != ENOSYS) puts("clone3");
  r = syscall(56, CLONE_NEWUSER | 17, 0, 0, 0, 0); if (r != -1 || errno != EPERM) puts("clone(CLONE_NEWUSER)");
  r = ioctl(0, 0x5412, "x"); if (r != -1 || errno != EPERM) puts("TIOCSTI");
  return 0; }}
"""
    from dft_eval.sandbox.program import read_artifacts

    built = compile_c(sandbox, source)
    files = read_artifacts(built.stdout)
    outcome = sandbox.run(Command(("./a.out",), files, frozenset({"a.out"}), limits=SHORT))
    assert (outcome.returncode, outcome.stdout) == (0, b"")


def test_system_calls_of_other_architectures_kill(sandbox):
    from dft_eval.sandbox.program import read_artifacts

    source = "#include <unistd.h>\nint main() { syscall(0x40000000 | 39); return 0; }"
    files = read_artifacts(compile_c(sandbox, source).stdout)
    assert sandbox.run(Command(("./a.out",), files, frozenset({"a.out"}), limits=SHORT)).returncode == 128 + 31


def test_a_compiler_cannot_be_made_to_read_a_secret(sandbox, secret):
    built = compile_c(sandbox, f'#include "{secret}"\nint main() {{ return 0; }}')
    assert built.returncode != 0
    assert SECRET.encode() not in built.stdout + built.stderr


@pytest.mark.parametrize(
    "source",
    [
        "template<int N> struct A { typedef typename A<N-1>::t a; typedef typename A<N-2>::t b; typedef A t; int x[N]; };"  # noqa: E501
        "\ntemplate<class T, int N> struct B { B<B<T,N>,N-1> l; B<B<B<T,N>,N>,N-1> r; };\nB<int,60> b; int main() {}",
        '#include "/dev/zero"\nint main() {}',
        "int main() { static char x[1ull << 40] = {1}; }",
    ],
    ids=["templates", "dev-zero", "huge-array"],
)
def test_compile_bombs_end(sandbox, source):
    argv = collecting((binary("g++"), "-w", "a.cpp", "-o", "a.out"), "a.out")
    limits = Limits(cpu_s=5, wall_s=30, memory_mib=1024, disk_mib=64)
    outcome = sandbox.run(Command(argv, {"a.cpp": source.encode()}, limits=limits, may_write=True))
    assert outcome.status != "ok" or outcome.returncode != 0
    assert outcome.status != "infra_error"


def test_the_cache_of_reference_outputs_cannot_be_reached(sandbox, tmp_path):
    import platformdirs

    cache = platformdirs.user_cache_path("dft-plugin")
    source = f"import os\nprint(os.path.exists({str(cache)!r}))\nos.makedirs({str(cache / 'humaneval_plus' / 'x')!r})"
    outcome = run_python(sandbox, source)
    assert outcome.stdout in (b"False\n", b"")
    assert not (cache / "humaneval_plus" / "x").exists()
