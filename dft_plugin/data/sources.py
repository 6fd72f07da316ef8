"""Files of a source, local or published, and their rows in order, a batch at a time, through `datasets`' streaming."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from dft_eval.records import files
from dft_plugin.data.columns import RowProblem
from dft_plugin.data.recipe import COMMIT, Source
from dft_plugin.errors import ConfigError, InputError, MissingPrerequisiteError

BATCH_ROWS = 1000
_ENDINGS = (".parquet", ".jsonl", ".jsonl.gz")


class SourceFile(NamedTuple):
    """One file.

    Attributes:
        name: Without folders of this machine.
        address: What `datasets` opens.
        sha256: Of a local file; empty where a commit stands for the content.
    """

    name: str
    address: str
    sha256: str = ""


class FoundSource(NamedTuple):
    """Files that are read, and what the manifest says of them.

    Attributes:
        files: In order.
        record: Kind, dataset, revision, names and digests.
        num_rows: Rows that all files must have together; None where that is not known.
    """

    files: tuple[SourceFile, ...]
    record: dict[str, Any]
    num_rows: int | None


class Batch(NamedTuple):
    """Rows of a file that follow each other.

    Attributes:
        first_row: Number of the first, from 0, in its file.
        rows: Each row, or why it is none.
    """

    first_row: int
    rows: list[dict[str, Any] | RowProblem]


def find_local(paths: Sequence[Path]) -> FoundSource:
    """The source of `--from`: files, or folders whose files are read in the order of their names.

    Raises:
        MissingPrerequisiteError: one is not there.
        ConfigError: an ending that is not read.
    """
    files = []
    for path in _spread(paths):
        if not path.name.endswith(_ENDINGS):
            raise ConfigError(f"{path}: files ending in {', '.join(_ENDINGS)} are accepted.")
        files.append(SourceFile(path.name, str(path), sha256_of(path)))
    record = {"kind": "local", "files": [{"name": file.name, "sha256": file.sha256} for file in files]}
    return FoundSource(tuple(files), record, None)


def _spread(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(each for each in path.iterdir() if each.name.endswith(_ENDINGS))
            if not inside:
                raise MissingPrerequisiteError(f"{path} holds no file ending in {', '.join(_ENDINGS)}.")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise MissingPrerequisiteError(f"{path} is not there; --from names files or a folder of them.")
    return found


def sha256_of(path: Path) -> str:
    """Digest of a file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return files.sha256_of(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None


def find_published(source: Source, revision: str | None) -> FoundSource:
    """The source a recipe names, at its commit or at another one.

    Args:
        source: Of the recipe.
        revision: A commit instead of the recipe's; then the recipe's number of rows is not expected.

    Raises:
        ConfigError: no commit is named, or no file of that name is there at it.
        MissingPrerequisiteError: the place cannot be reached.
    """
    commit = revision or source.revision
    where = source.hub or source.url
    if commit is None or COMMIT.fullmatch(commit) is None:
        found = "no commit is pinned" if commit is None else f"revision {commit!r} is no commit"
        raise ConfigError(
            f"{where}: {found}; a branch may change between two builds. Name a commit, 40 hexadecimal digits, by "
            "--revision, or local files by --from."
        )
    num_rows = source.rows if commit == source.revision else None
    if source.hub is None:
        address = str(source.url).replace("{revision}", commit)
        name = PurePosixPath(address).name
        return FoundSource((SourceFile(name, address),), {"kind": "url", "url": address, "revision": commit}, num_rows)
    names = _hub_files(source.hub, commit, source.files or [])
    files = tuple(SourceFile(name, f"hf://datasets/{source.hub}@{commit}/{name}") for name in names)
    record = {"kind": "hub", "dataset": source.hub, "revision": commit, "files": [{"name": name} for name in names]}
    return FoundSource(files, record, num_rows)


def _hub_files(dataset: str, commit: str, patterns: Sequence[str]) -> list[str]:
    from fnmatch import fnmatchcase

    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        there = HfApi().list_repo_files(dataset, repo_type="dataset", revision=commit)
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise ConfigError(f"{dataset} at {commit} is not on the hub: {_first_line(error)}") from None
    except _network_errors() as error:
        raise MissingPrerequisiteError(
            f"the hub cannot be reached for {dataset}: {_first_line(error)} Download its files elsewhere and give "
            "them by --from."
        ) from None
    names = []
    for pattern in patterns:
        found = sorted(name for name in there if fnmatchcase(name, pattern))
        if not found:
            raise ConfigError(
                f"{dataset} at {commit} has no file {pattern!r}; it has {', '.join(sorted(there))[:400]}."
            )
        names += found
    return names


def _network_errors() -> tuple[type[Exception], ...]:
    """Errors of an address that cannot be reached; the hub's client raises some that are no OSError."""
    errors: tuple[type[Exception], ...] = (OSError, ValueError, RuntimeError)
    try:
        from httpx import HTTPError
    except ImportError:  # huggingface_hub before version 1 uses requests, whose errors are
        return errors
    return (*errors, HTTPError)


def read_batches(file: SourceFile, columns: Sequence[str], first_row: int) -> Iterator[Batch]:
    """The rows of a file from a row on.

    Args:
        file: The file.
        columns: Columns that are read, where the file has columns.
        first_row: Where to begin.

    Raises:
        InputError: the file cannot be read to its end, or lacks a column.
        MissingPrerequisiteError: `datasets` is not installed.
    """
    try:
        import datasets
    except ImportError:
        raise MissingPrerequisiteError("`dft data build` reads through datasets; run: pip install datasets") from None

    row = first_row
    try:
        for table in _open_stream(datasets, file, columns).skip(first_row).iter(batch_size=BATCH_ROWS):
            values = table.to_pylist()
            yield Batch(
                row, values if _is_parquet(file) else _parse_lines(file, row, [each["text"] for each in values])
            )
            row += table.num_rows
    except InputError:
        raise
    except (EOFError, zlib.error, datasets.exceptions.DatasetsError, *_network_errors()) as error:
        raise InputError(
            f"{file.name} cannot be read from row {row} on: {_first_line(error)} It may be cut off or damaged; "
            "nothing was finished. Get it again and run the same command."
        ) from None


def _is_parquet(file: SourceFile) -> bool:
    return file.name.endswith(".parquet")


def _open_stream(datasets: Any, file: SourceFile, columns: Sequence[str]) -> Any:
    """The file as Arrow tables; lines of JSONL stay text, since types guessed from a few rows would refuse others."""
    settings = {"data_files": file.address, "split": "train", "streaming": True}
    if not _is_parquet(file):
        return datasets.load_dataset("text", **settings).with_format("arrow")
    there = datasets.load_dataset("parquet", **settings).column_names
    if absent := sorted(set(columns) - set(there)):
        raise InputError(
            f"{file.name} has no column {', '.join(absent)}, which the recipe reads; it has {', '.join(there)}. It is "
            "not the file the recipe is for, or its schema changed upstream."
        )
    stream = datasets.load_dataset("parquet", columns=list(columns), batch_size=BATCH_ROWS, **settings)
    return stream.with_format("arrow")


def _parse_lines(file: SourceFile, first_row: int, lines: Sequence[str]) -> list[dict[str, Any] | RowProblem]:
    rows: list[dict[str, Any] | RowProblem] = []
    for number, line in enumerate(lines, first_row):
        if not line or line.isspace():
            rows.append(RowProblem("blank_line", ""))
            continue
        try:
            found = json.loads(line.removeprefix("\ufeff"))
        except ValueError as error:
            raise InputError(
                f"{file.name}, line {number + 1} is not JSON ({error}); the file may be cut off. Get it again."
            ) from None
        rows.append(
            found
            if isinstance(found, dict)
            else RowProblem("wrong_type", f"a {type(found).__name__}; an object is one")
        )
    return rows


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}."
