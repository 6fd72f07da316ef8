"""A seccomp filter (classic BPF) that denies system calls no benchmark program needs.

Denied calls fail with EPERM; `clone3`, whose flags a filter cannot read, fails with ENOSYS so that the C library
falls back to `clone`, whose namespace flags are checked. Calls newer than this table fail with ENOSYS too: an older
kernel has none of them. Calls of another architecture's table kill the process.
"""

from __future__ import annotations

import errno
import platform
import struct

from dft_eval.sandbox.errors import SandboxUnavailableError

_ALLOW = 0x7FFF0000
_KILL_PROCESS = 0x80000000
_ERRNO = 0x00050000
_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_AT_LEAST, _JUMP_IF_ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_NUMBER_AT, _ARCH_AT, _FIRST_ARGUMENT_AT, _SECOND_ARGUMENT_AT = 0, 4, 16, 24
_AUDIT_ARCH_X86_64 = 0xC000003E
_X32_BIT = 0x40000000
_NAMESPACE_FLAGS = 0x7E020000  # CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C

_X86_64 = {
    # other processes and their memory
    "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "pidfd_getfd": 438,
    "process_madvise": 440, "process_mrelease": 448,
    # kernel attack surface
    "bpf": 321, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "perf_event_open": 298,
    "userfaultfd": 323, "keyctl": 250, "add_key": 248, "request_key": 249, "lookup_dcookie": 212,
    "vmsplice": 278, "modify_ldt": 154, "uselib": 134, "vhangup": 153, "quotactl": 179, "quotactl_fd": 443,
    # namespaces, mounts, handles
    "unshare": 272, "setns": 308, "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161,
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "mount_setattr": 442, "name_to_handle_at": 303, "open_by_handle_at": 304, "fanotify_init": 300,
    # memory that no limit counts
    "memfd_create": 319, "memfd_secret": 447, "shmget": 29, "shmat": 30, "shmctl": 31, "semget": 64, "msgget": 68,
    "mq_open": 240,
    # those of the machine, by their numbers: none can be made
    "semop": 65, "semctl": 66, "semtimedop": 220, "msgsnd": 69, "msgrcv": 70, "msgctl": 71,
    # the machine
    "reboot": 169, "kexec_load": 246, "kexec_file_load": 320, "init_module": 175, "finit_module": 313,
    "delete_module": 176, "swapon": 167, "swapoff": 168, "sethostname": 170, "setdomainname": 171, "iopl": 172,
    "ioperm": 173, "settimeofday": 164, "clock_settime": 227, "clock_adjtime": 305, "adjtimex": 159, "acct": 163,
    "syslog": 103, "nfsservctl": 180,
}  # fmt: skip
_WITHOUT_NETWORK_NAMESPACE = {
    # names of sockets are the machine's, and so are paths that can be watched
    "bind": 49, "connect": 42, "listen": 50, "accept": 43, "accept4": 288, "socket": 41,
    "inotify_init": 253, "inotify_init1": 294, "inotify_add_watch": 254,
}  # fmt: skip
_CLONE, _CLONE3, _IOCTL, _SOCKET, _SOCKETPAIR = 56, 435, 16, 41, 53
_FIRST_UNKNOWN = 450  # Linux 5.17; behind it `listmount` and `statmount`, which show the machine's mounts
_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
_SOCK_STREAM, _SOCK_TYPE_MASK = 1, 0xF


def deny_filter(*, has_network_namespace: bool) -> bytes:
    """The filter as the kernel reads it: an array of `struct sock_filter`.

    Args:
        has_network_namespace: Whether sockets reach nothing of the machine: then those of the three usual families
            can be made. Where they would, all that is left is a pair of stream sockets, which has no name and
            cannot be given one.

    Raises:
        SandboxUnavailableError: the system calls of this processor are not in the table.
    """
    if platform.machine() != "x86_64":
        raise SandboxUnavailableError(
            f"processor {platform.machine()}; the system call filter knows x86_64 only. Score on such a machine."
        )
    denied = sorted([*_X86_64.values(), *(() if has_network_namespace else _WITHOUT_NETWORK_NAMESPACE.values())])
    program = [
        _statement(_LOAD, _ARCH_AT),
        _jump(_JUMP_IF_EQUAL, _AUDIT_ARCH_X86_64, 1, 0),
        _statement(_RETURN, _KILL_PROCESS),
        _statement(_LOAD, _NUMBER_AT),
        _jump(_JUMP_IF_AT_LEAST, _X32_BIT, 0, 1),
        _statement(_RETURN, _KILL_PROCESS),
        _jump(_JUMP_IF_AT_LEAST, _FIRST_UNKNOWN, 1, 0),
        _jump(_JUMP_IF_EQUAL, _CLONE3, 0, 1),
        _statement(_RETURN, _ERRNO | errno.ENOSYS),
        _jump(_JUMP_IF_EQUAL, _CLONE, 0, 4),
        _statement(_LOAD, _FIRST_ARGUMENT_AT),
        _jump(_JUMP_IF_ANY_BIT, _NAMESPACE_FLAGS, 0, 1),
        _statement(_RETURN, _ERRNO | errno.EPERM),
        _statement(_RETURN, _ALLOW),
        _jump(_JUMP_IF_EQUAL, _IOCTL, 0, 5),
        _statement(_LOAD, _SECOND_ARGUMENT_AT),
        _jump(_JUMP_IF_EQUAL, _TIOCSTI, 1, 0),
        _jump(_JUMP_IF_EQUAL, _TIOCLINUX, 0, 1),
        _statement(_RETURN, _ERRNO | errno.EPERM),
        _statement(_RETURN, _ALLOW),
    ]
    program += _socket_rules(has_network_namespace)
    for number in denied:
        program += [_jump(_JUMP_IF_EQUAL, number, 0, 1), _statement(_RETURN, _ERRNO | errno.EPERM)]
    program.append(_statement(_RETURN, _ALLOW))
    return b"".join(program)


def _socket_rules(has_network_namespace: bool) -> list[bytes]:
    """Only known families; pairs only of AF_UNIX, and without a network namespace only of streams."""
    unknown_family = _statement(_RETURN, _ERRNO | errno.EAFNOSUPPORT)
    if has_network_namespace:
        rules = [
            _jump(_JUMP_IF_EQUAL, _SOCKET, 0, 6),
            _statement(_LOAD, _FIRST_ARGUMENT_AT),
            _jump(_JUMP_IF_EQUAL, _AF_UNIX, 2, 0),
            _jump(_JUMP_IF_EQUAL, _AF_INET, 1, 0),
            _jump(_JUMP_IF_EQUAL, _AF_INET6, 0, 1),
            _statement(_RETURN, _ALLOW),
            unknown_family,
        ]
        rules += [
            _jump(_JUMP_IF_EQUAL, _SOCKETPAIR, 0, 4),
            _statement(_LOAD, _FIRST_ARGUMENT_AT),
            _jump(_JUMP_IF_EQUAL, _AF_UNIX, 1, 0),
            unknown_family,
            _statement(_RETURN, _ALLOW),
        ]
        return rules
    return [
        _jump(_JUMP_IF_EQUAL, _SOCKETPAIR, 0, 8),
        _statement(_LOAD, _FIRST_ARGUMENT_AT),
        _jump(_JUMP_IF_EQUAL, _AF_UNIX, 1, 0),
        unknown_family,
        _statement(_LOAD, _SECOND_ARGUMENT_AT),
        _statement(_AND, _SOCK_TYPE_MASK),
        _jump(_JUMP_IF_EQUAL, _SOCK_STREAM, 0, 1),
        _statement(_RETURN, _ALLOW),
        _statement(_RETURN, _ERRNO | errno.EPERM),
    ]


def _statement(code: int, value: int) -> bytes:
    return _jump(code, value, 0, 0)


def _jump(code: int, value: int, if_true: int, if_false: int) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
