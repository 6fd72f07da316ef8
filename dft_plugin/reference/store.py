"""The folder of a reference: settings and result in `reference.json`, what is measured in `parts/`, then the data.

Every share of the rows has a part of its own, which only grows. A run that was interrupted goes on where it stopped;
one that asks for something else is refused. Whoever finds every row measured writes the data files.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dft_eval.records.changes import compare_settings
from dft_eval.records.files import make_folder, write_whole
from dft_eval.records.jsonl import JsonlLog, index_records, read_lines
from dft_plugin.errors import ConfigError, InputError
from dft_plugin.reference.data_files import read_rows, write_rows
from dft_plugin.training.reference_column import REF_COLUMN, Reference, unpack_logps

if TYPE_CHECKING:
    from dft_eval.run.shards import Shard
    from dft_plugin.encoding.framework_rows import DataFile, FrameworkRows

SCHEMA = 1
_RESULT = "reference.json"


class Place(NamedTuple):
    """Number of a file and of a row in it, both from 0."""

    file: int
    row: int


Record = tuple[Place, Reference]


class ReferenceStore:
    """Opens the folder, or makes it.

    Args:
        out: The folder.
        config: Everything that decides the numbers.
        rows: The data.

    Raises:
        ConfigError: the folder holds another reference, or data files themselves.
        InputError: a file whose rows are not those the framework found.
    """

    def __init__(self, out: Path, config: dict[str, Any], rows: FrameworkRows) -> None:
        self.out = out
        self._config = config
        self._rows = rows
        self._parts = out / "parts"
        self._numbers = {file.name: index for index, file in enumerate(rows.files)}
        for file in rows.files:
            if file.path.resolve().parent == out.resolve():
                raise ConfigError(f"--out {out} is the folder of {file.path}, which would be overwritten; use another.")
        names = Counter(file.name for file in rows.files)
        if twice := [name for name, count in names.items() if count > 1]:
            raise ConfigError(
                f"two data files are called {twice[0]!r}; the files written here would be one. Rename one."
            )
        make_folder(self._parts)
        if (out / _RESULT).is_file():
            self._refuse_changes(json.loads((out / _RESULT).read_text(encoding="utf-8")))
        else:
            self._write({"status": "running"})

    @property
    def model(self) -> str:
        """Fingerprint of the reference's files."""
        fingerprint: str = self._config["model_fingerprint"]
        return fingerprint

    def missing(self, shard: Shard | None) -> list[Place]:
        """The rows of a share that no part has."""
        places = self._places()
        done = self._read_parts()
        return [place for place in (places if shard is None else shard.select(places)) if place not in done]

    def part(self, shard: Shard | None) -> JsonlLog[Record]:
        """The part of a share, to append to."""
        name = "0-of-1" if shard is None else f"{shard.index}-of-{shard.count}"
        return JsonlLog(self._parts / f"{name}.jsonl", self._parse, self._dump, self._key)

    def finish(self) -> dict[str, Any]:
        """Write the data files where every row is measured; returns the content of `reference.json`."""
        done = self._read_parts()
        num_places = sum(file.num_rows for file in self._rows.files)
        if len(done) < num_places:
            return self._write({"status": "running", "num_rows": num_places, "num_rows_done": len(done)})
        files = {file.name: self._write_file(index, file, done) for index, file in enumerate(self._rows.files)}
        self._rows.write_beside(self.out)
        return self._write({"status": "done", "files": files, "changes": self._rows.changes(self.out)})

    def _places(self) -> list[Place]:
        return [Place(index, row) for index, file in enumerate(self._rows.files) for row in range(file.num_rows)]

    def _read_parts(self) -> dict[Place, Reference]:
        done: dict[Place, Reference] = {}
        for path in sorted(self._parts.glob("*-of-*.jsonl")):
            content = path.read_bytes()
            # the last line of a part may be cut off, or just being written by another share
            num_whole = content.count(b"\n")
            found, _ = index_records(path, read_lines(path)[:num_whole], self._parse, self._key)
            for place, reference in found.values():
                if done.setdefault(place, reference) != reference:
                    name = self._rows.files[place.file].name
                    raise ConfigError(
                        f"{path} contradicts another part in row {place.row} of {name!r}; use a new --out."
                    )
        return done

    def _write_file(self, index: int, file: DataFile, done: dict[Place, Reference]) -> dict[str, Any]:
        tally = _Tally()

        def with_column() -> Iterator[dict[str, Any]]:
            num_found = 0
            for row, record in enumerate(read_rows(file.path)):
                num_found += 1
                if row < file.num_rows:
                    reference = done[Place(index, row)]
                    tally.add(row, reference)
                    yield {**record, REF_COLUMN: reference.column()}
            if num_found < file.num_rows or (file.is_whole and num_found != file.num_rows):
                raise InputError(
                    f"{file.path} has {num_found} rows, and {self._rows.framework} reads {file.num_rows} of it, so "
                    "which is which is not certain. Write one JSON object a line."
                )
            if not tally.num_tokens:
                raise InputError(
                    f"{file.path}: no row has a trained token; reasons: {tally.skipped[:3] or 'rows cut'}."
                )

        path = self.out / f"{file.name}.jsonl"
        sha256 = write_rows(path, with_column())
        return {"path": str(path), "sha256": sha256, **tally.summary()}

    def _write(self, result: dict[str, Any]) -> dict[str, Any]:
        whole = {"schema": SCHEMA, "config": self._config, **result}
        write_whole(self.out / _RESULT, json.dumps(whole, indent=2) + "\n", is_shared=True)
        return whole

    def _refuse_changes(self, found: dict[str, Any]) -> None:
        then = {"schema": found.get("schema"), **found.get("config", {})}
        if changes := compare_settings(then, {"schema": SCHEMA, **self._config}):
            raise ConfigError(f"{self.out / _RESULT} differs in: {'; '.join(changes)}; use a new --out.")

    def _parse(self, line: bytes) -> Record:
        found = json.loads(line)
        try:
            return Place(self._numbers[found["dataset"]], int(found["row"])), Reference.read(found["reference"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a record of a reference ({error!r})") from None

    def _dump(self, record: Record) -> dict[str, Any]:
        place, reference = record
        return {"dataset": self._rows.files[place.file].name, "row": place.row, "reference": reference.column()}

    def _key(self, record: Record) -> tuple[str, int]:
        return self._rows.files[record[0].file].name, record[0].row


class _Tally:
    """Counts of a file's rows and of their tokens."""

    def __init__(self) -> None:
        self.num_rows = self.num_tokens = 0
        self.skipped: list[dict[str, Any]] = []
        self._nll = self._probability = 0.0

    def add(self, row: int, reference: Reference) -> None:
        self.num_rows += 1
        if reference.skipped:
            self.skipped.append({"row": row, "reason": reference.skipped})
        logps = unpack_logps(reference.logps)
        self.num_tokens += len(logps)
        self._nll -= math.fsum(logps)
        self._probability += math.fsum(map(math.exp, logps))

    def summary(self) -> dict[str, Any]:
        return {
            "num_rows": self.num_rows,
            "num_skipped": len(self.skipped),
            "num_tokens": self.num_tokens,
            "nll": self._nll / self.num_tokens,
            "mean_p": self._probability / self.num_tokens,
            "skipped": self.skipped,
        }
