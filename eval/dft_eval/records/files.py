"""Folders, and files that are written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from dft_eval.errors import DiskFullError, StoreError


class WrittenFile(NamedTuple):
    """A file that was written.

    Attributes:
        num_lines: Parts it was written in.
        sha256: Of its bytes.
    """

    num_lines: int
    sha256: str


def sha256_of(path: Path) -> str:
    """Return the hash of a file's bytes; an OSError where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_folder(path: Path) -> None:
    """Make a folder and its parents.

    Raises:
        StoreError: that is not possible.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{path} cannot be made: {error.strerror}; give another --out.") from error


def write_whole(path: Path, text: str, *, is_shared: bool = False) -> None:
    """Write a file so that it is there whole or, after any failure, as it was before.

    Args:
        path: In a folder that is there.
        text: Its content.
        is_shared: Several processes may write it at once; the last one wins.

    Raises:
        DiskFullError: there is no room.
        StoreError: it cannot be written.
    """
    try:
        write_lines(path, [text.encode("utf-8", "replace")], is_shared=is_shared)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFullError(f"no room to write {path}; make room and run the same command again.") from error
        raise StoreError(f"{path} cannot be written: {error.strerror}.") from error


def write_lines(path: Path, lines: Iterable[bytes], *, is_shared: bool = False) -> WrittenFile:
    """Write a file that may be longer than memory; it is there whole or, after any failure, as it was before.

    Args:
        path: In a folder that is there.
        lines: Its content, in order, line ends included.
        is_shared: Several processes may write it at once; the last one wins.

    Raises:
        OSError: it cannot be written.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp" if is_shared else f"{path.name}.tmp")
    digest, num_lines = hashlib.sha256(), 0
    try:
        with temporary.open("wb") as file:
            for line in lines:
                file.write(line)
                digest.update(line)
                num_lines += 1
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return WrittenFile(num_lines, digest.hexdigest())
