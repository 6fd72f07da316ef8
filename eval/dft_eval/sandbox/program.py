"""A program for a sandbox, its limits, and its outcome."""

from __future__ import annotations

import contextlib
import io
import subprocess
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

WORK_DIR = "/work"
"""Folder of a program's files, in which it starts, under every backend that has its own root."""

MIB = 1024 * 1024
_MAX_COLLECTED_FILES = 500

OutcomeStatus = Literal["ok", "timeout", "oom", "output_limit", "disk_limit", "infra_error"]


class ArtifactError(ValueError):
    """The files that a step made are not those of a compiler."""


@dataclass(frozen=True)
class Limits:
    """Limits of one program; every one is enforced, or the backend refuses to run it.

    Attributes:
        cpu_s: CPU seconds of all its processes together.
        wall_s: Seconds on the clock, for programs that wait; generous, since the machine may be busy.
        memory_mib: Memory of all its processes together, and of each.
        output_mib: Bytes it may write to stdout and stderr together.
        disk_mib: Bytes in each of its writable folders.
        num_files: Files in each of its writable folders.
        num_processes: Processes and threads together.
    """

    cpu_s: float = 10.0
    wall_s: float = 50.0
    memory_mib: int = 2048
    output_mib: int = 16
    disk_mib: int = 64
    num_files: int = 10_000
    num_processes: int = 256


@dataclass(frozen=True)
class Command:
    """One process to run, with its own empty folder.

    Attributes:
        argv: Program and arguments; the program is an absolute path below /usr.
        files: Contents by relative path, written into the folder before the start.
        executables: Those of `files` that may be executed.
        stdin: What it can read.
        limits: What it may use.
        env: Added to a minimal environment.
        read_only: Folders and files of the host it may read besides /usr.
        may_write: Whether its folder is writable; compilers need that, programs do not.
        descriptors: Open file descriptors it inherits under their numbers, to reach a long-running process.
        until: An open file descriptor; when its other end is closed, nobody needs the command and it is ended.
        overrun: Asked ten times a second, with its CPU seconds so far; a reason ends it as timed out.
    """

    argv: tuple[str, ...]
    files: Mapping[str, bytes] = field(default_factory=dict)
    executables: frozenset[str] = frozenset()
    stdin: bytes = b""
    limits: Limits = field(default_factory=Limits)
    env: Mapping[str, str] = field(default_factory=dict)
    read_only: tuple[Path, ...] = ()
    may_write: bool = False
    descriptors: tuple[int, ...] = ()
    until: int | None = None
    overrun: Callable[[float], str] | None = None


@dataclass(frozen=True)
class Outcome:
    """The outcome of a command.

    Attributes:
        status: `ok` where it ended by itself, whatever its return code; else the limit it ran into, or
            `infra_error` where it is unknown because the sandbox failed.
        returncode: Of the program; 128 + N after signal N; None where it never ran.
        stdout: The first and the last bytes it wrote, at most `KEPT_OUTPUT_BYTES`.
        stderr: Likewise.
        cpu_s: CPU seconds, the sandbox's own included.
        wall_s: Seconds from start to end.
        reason: A line for people.
    """

    status: OutcomeStatus
    returncode: int | None
    stdout: bytes
    stderr: bytes
    cpu_s: float
    wall_s: float
    reason: str = ""


def infra_error(reason: str) -> Outcome:
    """The sandbox failed; no word about the program."""
    return Outcome("infra_error", None, b"", b"", 0.0, 0.0, reason)


def too_large(command: Command) -> Outcome | None:
    """The outcome of a command whose files do not fit into the folder it may have; None where they do."""
    num_bytes = sum(map(len, command.files.values()))
    if num_bytes <= command.limits.disk_mib * MIB and len(command.files) <= command.limits.num_files:
        return None
    return Outcome("disk_limit", None, b"", b"", 0.0, 0.0, f"{len(command.files)} files of {num_bytes // MIB} MiB")


def run_guarded(name: str, command: Command, run: Callable[[contextlib.ExitStack], Outcome]) -> Outcome:
    """Run a command whose files fit; what the machine refuses is `infra_error`.

    Args:
        name: Of the backend.
        command: What to run.
        run: Runs it, and leaves what has to be released in the stack.
    """
    if (refused := too_large(command)) is not None:
        return refused
    try:
        with contextlib.ExitStack() as resources:
            return run(resources)
    except (OSError, subprocess.SubprocessError) as error:
        return infra_error(f"{name}: {error}")


def collecting(argv: tuple[str, ...], pattern: str) -> tuple[str, ...]:
    """A command that runs `argv` and then writes the files matching `pattern` to stdout as a tar archive.

    What `argv` prints goes to stderr; where it fails, its return code is kept and no archive is written. The
    folder itself never leaves the sandbox.

    Args:
        argv: For example a compiler.
        pattern: Shell pattern of the results, for example `*.class`.
    """
    script = f'"$@" 1>&2 || exit $?\nexec tar -cf - --format=ustar --owner=0 --group=0 -- {pattern}'
    return ("/usr/bin/bash", "-c", script, "bash", *argv)


def read_artifacts(archive: bytes) -> dict[str, bytes]:
    """Files of an archive written by `collecting`, by name.

    Raises:
        ArtifactError: it is no archive of plain files, or holds too many.
    """
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
            for member in tar:
                name = PurePosixPath(member.name)
                content = tar.extractfile(member) if member.isreg() else None
                if content is None or len(name.parts) != 1 or len(files) == _MAX_COLLECTED_FILES:
                    raise ArtifactError(
                        f"{member.name!r} as file {len(files) + 1}; at most {_MAX_COLLECTED_FILES} plain files."
                    )
                files[member.name] = content.read()
    except tarfile.TarError as error:
        raise ArtifactError(f"no archive came back from the compiler: {error}.") from error
    return files
