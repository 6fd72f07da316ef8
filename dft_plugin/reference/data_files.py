"""Data files as they are on the disk: read row by row, and written again with one column more."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dft_plugin.errors import InputError


def sha256_of(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON list, or of a file with one object a line.

    Raises:
        InputError: a row is no object.
    """
    with path.open(encoding="utf-8-sig") as file:
        start = file.read(1)
        while start.isspace():
            start = file.read(1)
        file.seek(0)
        is_list = start == "["
        rows: Iterable[str | Any] = json.load(file) if is_list else (line for line in file if line.strip())
        for number, row in enumerate(rows):
            try:
                found = row if is_list else json.loads(row)
            except json.JSONDecodeError as error:
                raise InputError(f"{path}, row {number} (from 0): not JSON ({error}).") from None
            if not isinstance(found, dict):
                raise InputError(f"{path}, row {number} (from 0): a {type(found).__name__}; an object is accepted.")
            yield found


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> str:
    """Write one object a line, the whole file or none of it; returns its sha256.

    Several processes may write the same file at once.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        digest = sha256_of(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return digest
