"""Work of a build that is under way, kept so that a killed one goes on where it was.

Three files grow in `OUT/.build`: the examples that passed, a fixed-size record for each of them, and the list of rows
that were noted. After each batch of rows `progress.json` is replaced whole; it says how long the files were then and
what their checksums are. Going on, whatever was written after that is cut off.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, TextIO

from dft_eval.records.changes import compare_settings
from dft_plugin.errors import ConflictError, InputError

EXAMPLES, INDEX, NOTES = "examples.jsonl", "index.bin", "notes.jsonl"
_GROWING = (EXAMPLES, INDEX, NOTES)
_ENTRY = struct.Struct("<QdQ")
_BLOCK_BYTES = 1 << 20


class Entry(NamedTuple):
    """An example that passed.

    Attributes:
        question: Half of its question's digest.
        key: What a selection orders by.
        num_bytes: Length of its line.
    """

    question: int
    key: float
    num_bytes: int


class WorkFolder:
    """The growing files; use it as a context manager.

    Args:
        out: Folder of the build.
        settings: All that decides the result.

    Attributes:
        state: What the last `commit` was given; empty in a new build.

    Raises:
        ConflictError: another build is under way in the folder, or it was begun with other settings.
        InputError: its files are not as they were left.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any]) -> None:
        self.path = out / ".build"
        self.path.mkdir(parents=True, exist_ok=True)
        self._settings = dict(settings)
        self._progress = self.path / "progress.json"
        with contextlib.ExitStack() as opened:
            self._take_lock(opened.enter_context((self.path / "lock").open("w")), out)
            self.state, self._checksums, sizes = self._read_progress(out)
            self._files: dict[str, BinaryIO] = {}
            for name in _GROWING:
                self._files[name] = self._open(name, sizes.get(name, 0))
                opened.callback(_close, self._files[name])
            self._opened = opened.pop_all()

    def append(self, name: str, content: bytes) -> None:
        """Append to one of the growing files."""
        self._files[name].write(content)
        self._checksums[name] = zlib.crc32(content, self._checksums[name])

    def append_entries(self, entries: list[Entry]) -> None:
        """Append the records of examples."""
        self.append(INDEX, b"".join(_ENTRY.pack(*entry) for entry in entries))

    def entries(self) -> Iterator[Entry]:
        """The records of all examples so far."""
        with (self.path / INDEX).open("rb") as file:
            while block := file.read(_ENTRY.size * 4096):
                yield from (Entry(*values) for values in _ENTRY.iter_unpack(block))

    def commit(self, state: Mapping[str, Any]) -> None:
        """Make all that was appended, and `state`, what a killed build goes on from."""
        sizes = {}
        for name, file in self._files.items():
            file.flush()
            sizes[name] = file.tell()
        progress = {"settings": self._settings, "state": state, "sizes": sizes, "checksums": self._checksums}
        temporary = self._progress.with_suffix(".tmp")
        temporary.write_text(json.dumps(progress), encoding="utf-8")
        temporary.replace(self._progress)
        self.state = dict(state)

    def remove(self) -> None:
        """Remove the folder; the build is done."""
        shutil.rmtree(self.path)

    def _take_lock(self, lock: TextIO, out: Path) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConflictError(f"another build is under way in {out}; wait for it, or use a new --out.") from None

    def _read_progress(self, out: Path) -> tuple[dict[str, Any], dict[str, int], dict[str, int]]:
        if not self._progress.exists():
            return {}, dict.fromkeys(_GROWING, 0), {}
        progress = json.loads(self._progress.read_text(encoding="utf-8"))
        if differing := compare_settings(progress["settings"], self._settings):
            raise ConflictError(
                f"{out} was begun with other settings or other data: {'; '.join(differing)}. Use a new --out, or "
                "remove the folder."
            )
        return progress["state"], progress["checksums"], progress["sizes"]

    def _open(self, name: str, size: int) -> BinaryIO:
        path = self.path / name
        path.touch()
        file = path.open("r+b")
        checksum, left = 0, size
        while left and (block := file.read(min(left, _BLOCK_BYTES))):
            checksum, left = zlib.crc32(block, checksum), left - len(block)
        if left or checksum != self._checksums[name]:
            file.close()
            raise InputError(f"{path} is not as the build left it; remove {self.path} and run the command again.")
        file.truncate(size)
        file.seek(size)
        return file

    def __enter__(self) -> WorkFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()


def _close(file: BinaryIO) -> None:
    """Close, though there may be no room for what is still in its buffer; only committed bytes count."""
    with contextlib.suppress(OSError):
        file.close()
