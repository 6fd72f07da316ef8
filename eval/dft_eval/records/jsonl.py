"""Append-only JSONL files that survive being killed: a record is either whole in the file or not at all."""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, NamedTuple, TypeVar

from dft_eval.errors import DiskFullError, RecordsError, StoreError

logger = logging.getLogger(__name__)

Record = TypeVar("Record")
Key = tuple[str, int]
"""Sample id and repeat."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Line(NamedTuple):
    """One line of a file, with its number from 1."""

    number: int
    content: bytes


def encode_record(record: Mapping[str, Any]) -> bytes:
    """One line. Half of a surrogate pair, which a program may print and UTF-8 cannot hold, becomes `?`."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace") + b"\n"


def read_object(line: bytes, where: str, needed: str) -> dict[str, Any]:
    """Return the object of a line that a person wrote; a byte order mark before it is allowed.

    Args:
        line: The line.
        where: What to call it in a message.
        needed: What an object is needed for, or what it must hold, as `... is needed`.

    Raises:
        RecordsError: it is no JSON, or another value.
    """
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except ValueError as error:
        raise RecordsError(f"{where} is not JSON ({error}); one object a line is needed.") from error
    if not isinstance(record, dict):
        raise RecordsError(f"{where} is not an object; {needed} is needed.")
    return record


def read_lines(path: Path) -> list[Line]:
    """The lines that are not blank.

    Raises:
        RecordsError: the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecordsError(f"{path} cannot be read: {error.strerror}. Give a JSONL file, one record a line.") from error
    return [Line(number, line) for number, line in enumerate(content.split(b"\n"), start=1) if line.strip()]


def index_records(
    path: Path, lines: Iterable[Line], parse: Callable[[bytes], Record], key: Callable[[Record], Key]
) -> tuple[dict[Key, Record], int]:
    """Parse lines and index them by sample id and repeat.

    Args:
        path: For messages.
        lines: What to parse.
        parse: Makes a record; raises ValueError for what is none.
        key: The record's id.

    Returns:
        The records in the order of the lines, and how many lines repeated an earlier one exactly.

    Raises:
        RecordsError: a line is no record, or an id comes twice with different content; names file and line.
    """
    records: dict[Key, Record] = {}
    first_seen: dict[Key, int] = {}
    num_duplicates = 0
    for number, content in lines:
        try:
            record = parse(content)
        except ValueError as error:
            raise RecordsError(f"{path}, line {number}: {error}") from error
        identity = key(record)
        if identity not in records:
            records[identity], first_seen[identity] = record, number
        elif records[identity] == record:
            num_duplicates += 1
        else:
            raise RecordsError(
                f"{path}, line {number}: {identity[0]!r} repeat {identity[1]} is already on line "
                f"{first_seen[identity]} with different content. Keep one of them, or number them with `repeat`."
            )
    return records, num_duplicates


class JsonlLog(Generic[Record]):
    """A JSONL file that is only ever appended to; use it as a context manager.

    Opening reads what is there. A last line without its newline was cut off when a writer was killed: it is
    dropped with a warning. The caller holds the run folder's lock.

    Args:
        path: The file; it is made where it does not exist.
        parse: Makes a record of a line; raises ValueError for what is none.
        dump: The JSON object of a record.
        key: The record's id.

    Attributes:
        records: Everything recorded, by id, in the order of the file.
    """

    def __init__(
        self,
        path: Path,
        parse: Callable[[bytes], Record],
        dump: Callable[[Record], Mapping[str, Any]],
        key: Callable[[Record], Key],
    ) -> None:
        self.path = path
        self._dump, self._key = dump, key
        try:
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreError(f"{path} cannot be opened: {error.strerror}; use another --out.") from error
        try:
            self._size = _drop_truncated_line(self._file, path)
            try:
                self.records, num_duplicates = index_records(path, read_lines(path), parse, key)
            except RecordsError as error:
                raise StoreError(
                    f"{error} The file was damaged; mend or remove that line, or use a new --out."
                ) from error
        except BaseException:
            os.close(self._file)
            raise
        if num_duplicates:
            logger.warning("%s: %d lines repeat earlier ones and are ignored.", path, num_duplicates)

    def append(self, records: Iterable[Record]) -> None:
        """Append records in one write, and wait until they are on the disk.

        Raises:
            DiskFullError: there is no room; the file is as it was before.
            StoreError: an id that is already recorded.
        """
        new: dict[Key, Record] = {}
        for record in records:
            identity = self._key(record)
            if identity in self.records or identity in new:
                raise StoreError(f"{self.path} already holds {identity}; a record is written once.")
            new[identity] = record
        content = b"".join(encode_record(self._dump(record)) for record in new.values())
        try:
            self._write(content)
        except OSError as error:
            os.ftruncate(self._file, self._size)
            if error.errno in _FULL:
                raise DiskFullError(
                    f"no room to append to {self.path} ({error.strerror}). Everything recorded so far is intact: "
                    "make room and run the same command again."
                ) from error
            raise StoreError(f"{self.path} cannot be written: {error.strerror}.") from error
        self._size += len(content)
        self.records.update(new)

    def _write(self, content: bytes) -> None:
        view = memoryview(content)
        while view:
            view = view[os.write(self._file, view) :]
        os.fsync(self._file)

    def __enter__(self) -> JsonlLog[Record]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)


def _drop_truncated_line(file: int, path: Path) -> int:
    """Cut the file after its last newline; its size then."""
    size = os.fstat(file).st_size
    end, block = size, 1 << 16
    while end > 0:
        start = max(0, end - block)
        newline = os.pread(file, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        logger.warning(
            "%s: the last line was cut off (%d bytes) and is dropped; it will be made again.", path, size - end
        )
        os.ftruncate(file, end)
    return end
