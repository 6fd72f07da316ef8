"""Data files as they are on the disk: read row by row, and written again with one column more."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dft_eval.records.files import write_lines
from dft_plugin.errors import InputError


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
    lines = ((json.dumps(row, ensure_ascii=False) + "\n").encode() for row in rows)
    return write_lines(path, lines, is_shared=True).sha256
