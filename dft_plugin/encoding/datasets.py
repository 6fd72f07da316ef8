"""Training files as `dft scan` and `dft probs` read them: JSON or JSONL, one format a file, every row checked.

A row of another format, an ambiguous one, or one with a field that changes what is trained and is not understood
(tools, videos, a loss switch) is an error that names the file and the row; nothing is guessed or left out.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dft_plugin.encoding.row_formats import FORMATS, Row, RowError, read_row
from dft_plugin.errors import ConfigError, InputError, MissingPrerequisiteError


@dataclass(frozen=True)
class Dataset:
    """One file.

    Attributes:
        name: The file's name without its ending; what a route calls it.
        path: The file.
        sha256: Of its bytes.
        format: One of `FORMATS`.
        rows: All rows, in the file's order.
    """

    name: str
    path: Path
    sha256: str
    format: str
    rows: tuple[Row, ...]


def read_datasets(paths: Sequence[Path]) -> list[Dataset]:
    """Read every file.

    Raises:
        MissingPrerequisiteError: no such file.
        ConfigError: two files of one name, or an ending other than .json and .jsonl.
        InputError: a file or row that cannot be read.
    """
    twice = [name for name, count in Counter(path.stem for path in paths).items() if count > 1]
    if twice:
        raise ConfigError(
            f"two data files are called {twice[0]!r}; a dataset is named after its file, so the names must differ. "
            "Rename one."
        )
    return [_read(path) for path in paths]


def draw(dataset: Dataset, count: int, seed: int) -> list[Row]:
    """A seeded sample of the rows without replacement, in the file's order; all of them where there are no more."""
    rng = random.Random(f"{seed}:{dataset.name}")
    chosen = sorted(rng.sample(range(len(dataset.rows)), min(count, len(dataset.rows))))
    return [dataset.rows[index] for index in chosen]


def _read(path: Path) -> Dataset:
    if path.suffix not in {".json", ".jsonl"}:
        raise ConfigError(f"{path}: files ending in .json and .jsonl are accepted.")
    if not path.is_file():
        raise MissingPrerequisiteError(f"data file {path} is not there; check the path, or make the file first.")
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error}); convert it.") from None
    rows: list[Row] = []
    format_name = ""
    times_seen: Counter[str] = Counter()
    for where, record in _records(path, text):
        try:
            row_format, row = read_row(record, path.stem, path.parent)
        except RowError as error:
            raise InputError(f"{path}, {where}: {error}") from None
        format_name = format_name or row_format
        if row_format != format_name:
            raise InputError(
                f"{path}, {where}: the row is {row_format!r}, the rows before are {format_name!r}; one format a file "
                "is accepted. Split the file."
            )
        # equal rows count as often as they are trained on, so a copy is a sample of its own
        rows.append(row.at(where, repeat=times_seen[row.content_id]))
        times_seen[row.content_id] += 1
    if not rows:
        raise InputError(f"{path}: no rows; formats: {', '.join(FORMATS)}.")
    return Dataset(path.stem, path, hashlib.sha256(content).hexdigest(), format_name, tuple(rows))


def _records(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    """Each row with the words that point to it."""
    if path.suffix == ".jsonl":
        # not splitlines(): JSON strings may hold other line separators as they are
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield f"line {number}", _parse(line, f"{path}, line {number}")
        return
    content = _parse(text, str(path))
    if not isinstance(content, list):
        raise InputError(f"{path}: a {type(content).__name__}; a JSON list of rows is accepted.")
    for number, record in enumerate(content, 1):
        yield f"row {number}", record


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON ({error}).") from None
