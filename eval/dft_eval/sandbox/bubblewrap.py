"""Isolation by bubblewrap: own user, PID, network, IPC and UTS namespaces and a read-only view of /usr.

What each part is for:

- The environment is cleared twice: `--clearenv` for the program, and a minimal environment for bwrap itself, which
  is process 1 of the sandbox and shows its own in `/proc/1/environ`.
- As root, bwrap runs under a user id of its own: the kernel exempts root from limits on processes.
- Writable folders are tmpfs of a fixed size; the root is read-only; compilers run in it too.
- The byte in the blocking pipe is read after the sandbox has been set up: where it is still there at the end,
  bwrap failed, not the program.
- Process 1 of the sandbox runs under the program's own user id, so nothing of it is shown in /proc: with its memory
  a program could forge a return code. Tables of the machine's kernel are hidden as well.
- Process 1 of the sandbox is killed, never bwrap outside. bwrap does not wait for it, so this process makes itself
  the reaper of orphans: no zombies are left where the machine's own process 1 reaps nothing.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import fcntl
import json
import math
import os
import shutil
import signal
import subprocess
import termios
from functools import cache
from pathlib import Path

from dft_eval.sandbox.cgroup import Group, open_group
from dft_eval.sandbox.errors import SandboxUnavailableError
from dft_eval.sandbox.identity import borrowed_user_id
from dft_eval.sandbox.program import MIB, WORK_DIR, Command, Limits, Outcome, infra_error, run_guarded
from dft_eval.sandbox.scratch import start_reaper
from dft_eval.sandbox.seccomp import deny_filter
from dft_eval.sandbox.supervise import KEPT_OUTPUT_BYTES, Watch, supervise
from dft_eval.sandbox.usage import Meter, Usage, accounted, descendants, with_cpu_s

INSTALL = "apt-get install -y --no-install-recommends bubblewrap"
BASE_ENV = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "TMPDIR": "/tmp",
    "HOME": "/tmp",
    "OPENSSL_CONF": "/dev/null",  # Node ends where the machine's own is there and cannot be read
}
ETC = ("alternatives", "ld.so.cache", "java-17-openjdk", "java-21-openjdk", "mono", "php")
"""Entries of /etc that programs may read, where they exist: linker cache and configuration of toolchains."""

_DEVICES = ("null", "zero", "full", "random", "urandom")
_KERNEL_TABLES = (
    "cmdline", "config.gz", "diskstats", "interrupts", "kallsyms", "kcore", "key-users", "keys", "kmsg", "locks",
    "modules", "partitions", "timer_list",
)  # fmt: skip
_PR_SET_CHILD_SUBREAPER = 36


class Bubblewrap:
    """Runs commands under bwrap.

    Raises:
        SandboxUnavailableError: bwrap or prlimit is not installed.
    """

    name = "bubblewrap"

    def __init__(self) -> None:
        self._bwrap, self._prlimit = shutil.which("bwrap"), shutil.which("prlimit")
        if self._bwrap is None:
            raise SandboxUnavailableError(f"bwrap is not installed. Run: {INSTALL}")
        if self._prlimit is None:
            raise SandboxUnavailableError("prlimit is not installed. Run: apt-get install -y util-linux")
        self._filter = deny_filter(has_network_namespace=True)
        if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise SandboxUnavailableError(f"prctl(PR_SET_CHILD_SUBREAPER): {os.strerror(ctypes.get_errno())}.")

    def run(self, command: Command, *, kept_bytes: int = KEPT_OUTPUT_BYTES) -> Outcome:
        """Run one command in a sandbox of its own.

        Args:
            command: What to run.
            kept_bytes: Most bytes kept of each output stream.
        """
        return run_guarded(self.name, command, lambda resources: self._run(command, kept_bytes, resources))

    def _run(self, command: Command, kept_bytes: int, resources: contextlib.ExitStack) -> Outcome:
        user_id = resources.enter_context(borrowed_user_id())
        if user_id is not None:
            start_reaper(os.getpid())
        group = open_group(command.limits)
        if group is not None:
            resources.callback(group.close)
        before_start = resources.enter_context(contextlib.ExitStack())
        status_out, status_in = _pipe(resources, before_start)
        block_out, block_in = _pipe(resources, resources)
        filter_fd = _memory_file(resources, self._filter)
        passed = [status_in, block_out, filter_fd, *command.descriptors]
        argv = [
            *self._view(command),
            *_writable(command.limits),
        ]
        for path, content in command.files.items():
            fd = _memory_file(resources, content)
            passed.append(fd)
            mode = "0755" if path in command.executables else "0644"
            argv += ["--perms", mode, "--file", str(fd), f"{WORK_DIR}/{path}"]
        argv += ["--remount-ro", "/", "--remount-ro", "/dev", "--chdir", WORK_DIR]
        argv += ["--seccomp", str(filter_fd), "--json-status-fd", str(status_in), "--block-fd", str(block_out), "--"]
        argv += [*self._limited(command.limits), *command.argv]
        process = subprocess.Popen(
            argv,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=passed,
            env={"PATH": BASE_ENV["PATH"]},
            user=user_id,
            group=user_id,
            extra_groups=() if user_id is not None else None,
        )
        resources.callback(_reap, process)
        before_start.close()  # once: closed again, the number may be another thread's file
        inner = _inner_pid(status_out)
        if inner is None:
            process.kill()
            outcome = supervise(process, b"", command.limits, _watch_nothing(), kept_bytes)
            return infra_error(f"bubblewrap did not start: {outcome.stderr[-500:].decode(errors='replace')}")
        if group is not None:
            with contextlib.suppress(ProcessLookupError):  # bwrap failed, which is found out below
                group.add(inner)
        os.write(block_in, b"x")  # only now is the program started
        watch = _watch(inner, command, block_out, group)
        outcome = supervise(process, command.stdin, command.limits, watch, kept_bytes)
        with contextlib.suppress(ChildProcessError):  # bwrap itself waited for it
            _, _, used = os.wait4(inner, 0)
            outcome = with_cpu_s(outcome, max(outcome.cpu_s, used.ru_utime + used.ru_stime), command.limits)
        if outcome.status == "ok" and _unread(block_out):
            return infra_error(f"bubblewrap failed: {outcome.stderr[-500:].decode(errors='replace')}")
        return accounted(outcome, group, command.limits)

    def _view(self, command: Command) -> list[str]:
        assert self._bwrap is not None
        argv = [self._bwrap, "--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
        argv += ["--uid", "1000", "--gid", "1000", "--clearenv", "--new-session", "--die-with-parent"]
        for name, value in {**BASE_ENV, **command.env}.items():
            argv += ["--setenv", name, value]
        argv += ["--ro-bind", "/usr", "/usr"]
        for folder in ("/bin", "/sbin", "/lib", "/lib64", "/lib32"):
            if Path(folder).is_symlink():
                argv += ["--symlink", str(Path(folder).readlink()), folder]
            elif Path(folder).is_dir():
                argv += ["--ro-bind", folder, folder]
        for name in ETC:
            argv += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
        for path in command.read_only:
            argv += ["--ro-bind", str(path), str(path)]
        argv += ["--proc", "/proc", "--size", "4096", "--tmpfs", "/dev", "--symlink", "/proc/self/fd", "/dev/fd"]
        for name in _DEVICES:
            argv += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
        argv += ["--size", "4096", "--perms", "0555", "--tmpfs", "/proc/1", "--remount-ro", "/proc/1"]
        for table in _kernel_tables():
            argv += ["--ro-bind", "/dev/null", table]
        return argv

    def _limited(self, limits: Limits) -> list[str]:
        assert self._prlimit is not None
        cpu_s = math.ceil(limits.cpu_s) + 1  # behind the supervisor, which looks ten times a second
        return [
            self._prlimit,
            f"--cpu={cpu_s}:{cpu_s + 1}",
            f"--data={limits.memory_mib * MIB}",
            f"--fsize={limits.disk_mib * MIB}",
            f"--nproc={limits.num_processes}",
            f"--stack={8 * MIB}",
            "--nofile=1024",
            "--core=1",  # 0 would still start a machine's crash reporter
            "--memlock=0",
            "--",
        ]


@cache
def _kernel_tables() -> tuple[str, ...]:
    """Those of this kernel that describe the machine."""
    return tuple(path for name in _KERNEL_TABLES if Path(path := f"/proc/{name}").exists())


def _writable(limits: Limits) -> list[str]:
    size = str(limits.disk_mib * MIB)
    return ["--size", size, "--tmpfs", WORK_DIR, "--size", size, "--tmpfs", "/tmp"]


def _watch(inner: int, command: Command, block_out: int, group: Group | None) -> Watch:
    def kill() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(inner, signal.SIGKILL)

    def is_disk_full() -> bool:
        if _unread(block_out):
            return False  # still being set up: its root is the machine's
        for folder in (WORK_DIR, "/tmp"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                state = os.statvfs(f"/proc/{inner}/root{folder}")
                if state.f_files - state.f_ffree > command.limits.num_files:
                    return True
        return False

    return Watch(Meter(lambda: descendants(inner), group).measure, is_disk_full, kill, command.until, command.overrun)


def _watch_nothing() -> Watch:
    return Watch(lambda: Usage(0.0, 0), lambda: False, lambda: None)


def _reap(process: subprocess.Popen[bytes]) -> None:
    """End and collect a process that an exception left behind."""
    if process.returncode is None:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _inner_pid(status_out: int) -> int | None:
    """Process 1 of the sandbox, as seen from here; None where bwrap ended without starting it."""
    told = b""
    while b"\n" not in told:
        chunk = os.read(status_out, 4096)
        if not chunk:
            return None
        told += chunk
    pid = json.loads(told.split(b"\n")[0]).get("child-pid")
    return int(pid) if pid is not None else None


def _unread(pipe: int) -> bool:
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0] > 0


def _pipe(reader: contextlib.ExitStack, writer: contextlib.ExitStack) -> tuple[int, int]:
    ends = os.pipe()
    for end, owner in zip(ends, (reader, writer), strict=True):
        owner.callback(os.close, end)
    return ends


def _memory_file(resources: contextlib.ExitStack, content: bytes) -> int:
    fd = os.memfd_create("file")
    resources.callback(os.close, fd)
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
