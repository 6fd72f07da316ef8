"""Isolation by Landlock, seccomp, resource limits and a user id of its own, where user namespaces are denied.

For root in a container. There are no namespaces, so what they give has to come from elsewhere, and what cannot be
had is refused:

- Files: Landlock allows reading /usr, a few files of /etc and /proc/self, and nothing else.
- Disk: a program may write nothing at all; a command that asks for a writable folder (a compiler) gets one on
  the host, whose size is watched, and which is deleted.
- Network: seccomp denies `socket` and every name of a socket; what is left are pairs of stream sockets.
- Other processes: the user id is lent to one sandbox at a time, so signals and limits on processes reach its own
  only. Without root there is no such id, and this backend refuses.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import resource
import signal
import struct
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from dft_eval.sandbox.bubblewrap import BASE_ENV, ETC
from dft_eval.sandbox.cgroup import Group, open_group
from dft_eval.sandbox.errors import SandboxUnavailableError
from dft_eval.sandbox.identity import borrowed_user_id
from dft_eval.sandbox.program import MIB, Command, Limits, Outcome, run_guarded
from dft_eval.sandbox.scratch import FOLDER_PREFIX, is_over, processes_of, remove_folder, start_reaper
from dft_eval.sandbox.seccomp import deny_filter
from dft_eval.sandbox.supervise import KEPT_OUTPUT_BYTES, Watch, supervise
from dft_eval.sandbox.usage import Meter, accounted

_MIN_ABI = 3  # the first that restricts truncation
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3
_WRITE_FILE = 1 << 1
_FILE_RIGHTS = {3: (1 << 15) - 1, 5: (1 << 16) - 1}
_ONLY_DIRECTORIES = ~(_EXECUTE | _READ_FILE | _WRITE_FILE | 1 << 14 | 1 << 15)
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 1, 36, 38, 22
_SECCOMP_MODE_FILTER = 2
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_READABLE_PROC = ("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys/vm/overcommit_memory")
_READABLE_OF_SELF = ("cmdline", "exe", "fd", "limits", "maps", "smaps", "stat", "statm", "status")
"""Of the program's first process; the rest of the folder describes the machine's mounts and sockets."""

_libc = ctypes.CDLL(None, use_errno=True)


class _SockFprog(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


class Landlock:
    """Runs commands under Landlock.

    Raises:
        SandboxUnavailableError: not root, or the kernel is too old.
    """

    name = "landlock"

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise SandboxUnavailableError("this process is not root, so a program cannot have a user id of its own.")
        abi = _libc.syscall(_CREATE_RULESET, None, 0, 1)
        if abi < _MIN_ABI:
            raise SandboxUnavailableError(f"Landlock version {abi} of this kernel; needs {_MIN_ABI} (Linux 6.2).")
        self._rights = _FILE_RIGHTS[5 if abi >= 5 else 3]
        self._filter = deny_filter(has_network_namespace=False)
        if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise SandboxUnavailableError(f"prctl(PR_SET_CHILD_SUBREAPER): {os.strerror(ctypes.get_errno())}.")

    def run(self, command: Command, *, kept_bytes: int = KEPT_OUTPUT_BYTES) -> Outcome:
        """Run one command in a sandbox of its own.

        Args:
            command: What to run.
            kept_bytes: Most bytes kept of each output stream.
        """
        return run_guarded(self.name, command, lambda resources: self._run(command, kept_bytes, resources))

    def _run(self, command: Command, kept_bytes: int, resources: contextlib.ExitStack) -> Outcome:
        start_reaper(os.getpid())
        user_id = resources.enter_context(borrowed_user_id())
        assert user_id is not None
        group = open_group(command.limits)
        if group is not None:
            resources.callback(group.close)
        folder = Path("/usr")
        if command.files or command.may_write:
            folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-"))
            resources.callback(remove_folder, folder)
            _fill(folder, command, user_id)
        resources.callback(_end_all, user_id)
        temporary = {"HOME": str(folder), "TMPDIR": str(folder)} if command.may_write else {}
        process = subprocess.Popen(
            command.argv,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env={**BASE_ENV, **temporary, **command.env},
            pass_fds=command.descriptors,
            preexec_fn=self._confinement(command, folder, user_id, group),
        )
        meter = Meter(lambda: processes_of(user_id), group)
        watch = Watch(
            meter.measure,
            lambda: command.may_write and is_over(folder, command.limits, user_id),
            lambda: _end_all(user_id, keep=process.pid),
            command.until,
            command.overrun,
        )
        return accounted(supervise(process, command.stdin, command.limits, watch, kept_bytes), group, command.limits)

    def _confinement(self, command: Command, folder: Path, user_id: int, group: Group | None) -> Callable[[], None]:
        """Return the function that the child calls between fork and exec; all that can be prepared is prepared here."""
        program = _SockFprog(len(self._filter) // 8, self._filter)
        rights = self._rights
        readable = [Path("/usr"), *(Path("/etc") / name for name in ETC), *command.read_only]
        readable += [path for path in map(Path, ("/bin", "/sbin", "/lib", "/lib64")) if not path.is_symlink()]
        parent = os.getpid()

        def confine() -> None:
            os.setsid()
            if group is not None:
                group.add(os.getpid())
            _set_limits(command.limits)
            os.setgroups([])
            os.setresgid(user_id, user_id, user_id)
            os.setresuid(user_id, user_id, user_id)
            _call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(125)
            _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            attributes = struct.pack("Q", rights)
            ruleset = _call("syscall", _CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
            for path in readable:
                _allow(ruleset, path, rights & (_EXECUTE | _READ_FILE | _READ_DIR))
            for name in (*_READABLE_PROC, *(f"/proc/{os.getpid()}/{each}" for each in _READABLE_OF_SELF)):
                _allow(ruleset, Path(name), _READ_FILE | _READ_DIR)
            for name in _DEVICES:
                _allow(ruleset, Path(name), _READ_FILE | _WRITE_FILE)
            _allow(ruleset, folder, rights if command.may_write else _EXECUTE | _READ_FILE | _READ_DIR)
            _call("syscall", _RESTRICT_SELF, ruleset, 0)
            os.close(ruleset)
            _call("prctl", _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)

        return confine


def _call(function: str, *arguments: object) -> int:
    result = int(getattr(_libc, function)(*arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{function}{arguments[:1]}")
    return result


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # a toolchain that is not installed
    if not path.is_dir():
        rights &= ~_ONLY_DIRECTORIES
    try:
        _call("syscall", _ADD_RULE, ruleset, 1, struct.pack("=Qi", rights, fd), 0)
    finally:
        os.close(fd)


def _set_limits(limits: Limits) -> None:
    cpu_s = math.ceil(limits.cpu_s) + 1  # behind the supervisor, which looks ten times a second
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    for kind, value in (
        (resource.RLIMIT_DATA, limits.memory_mib * MIB),
        (resource.RLIMIT_FSIZE, limits.disk_mib * MIB),
        (resource.RLIMIT_NPROC, limits.num_processes),
        (resource.RLIMIT_STACK, 8 * MIB),
        (resource.RLIMIT_NOFILE, 1024),
        (resource.RLIMIT_CORE, 1),  # 0 would still start a machine's crash reporter
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        resource.setrlimit(kind, (value, value))


def _fill(folder: Path, command: Command, user_id: int) -> None:
    folder.chmod(0o755)
    for name, content in command.files.items():
        path = folder / name
        path.write_bytes(content)
        path.chmod(0o755 if name in command.executables else 0o644)
    if command.may_write:
        os.chown(folder, user_id, user_id)


def _end_all(user_id: int, keep: int | None = None) -> None:
    """Kill and reap every process of a user id; `keep` is killed but left for its own parent to reap."""
    while pids := processes_of(user_id):
        alive = False
        for pid in pids:
            if pid != keep:
                with contextlib.suppress(ChildProcessError):  # not reparented to this process yet
                    os.waitpid(pid, os.WNOHANG)
            alive = alive or not _is_zombie(pid)
        if not alive and pids == [keep]:
            return
        if alive:  # the kernel signals all processes at once: a fork cannot slip through
            subprocess.run(
                ("/usr/bin/bash", "-c", "kill -9 -1"), user=user_id, group=user_id, extra_groups=(), check=False
            )


def _is_zombie(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return True
    return stat.rpartition(b")")[2].split()[0] in (b"Z", b"X")
