"""Folders, and files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from dft_eval.errors import DiskFullError, StoreError


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
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp" if is_shared else f"{path.name}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", errors="replace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFullError(f"no room to write {path}; make room and run the same command again.") from error
        raise StoreError(f"{path} cannot be written: {error.strerror}.") from error
