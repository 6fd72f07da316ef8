"""Benchmark data: found in `$DFT_DATA_DIR` or in the user's cache, checked by digest before use, fetched on request."""

from __future__ import annotations

import hashlib
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import platformdirs
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_exponential

from dft_eval.errors import MissingPrerequisite
from dft_eval.records.files import make_folder
from dft_eval.tasks.base import DataFile

logger = logging.getLogger(__name__)

_BLOCK_BYTES = 1 << 20
_TIMEOUT_S = 30.0
_verified: dict[tuple[str, str, int, int], str] = {}  # by algorithm, path, size, time of change; once a process


class WrongDataError(MissingPrerequisite):
    """A file is there and is not the pinned one."""


class Fetched(NamedTuple):
    """Result of `fetch_data`."""

    folder: Path
    downloaded: tuple[str, ...]
    present: tuple[str, ...]


def cache_dir() -> Path:
    """Return the folder of fetched data."""
    return platformdirs.user_cache_path("dft-plugin") / "data"


def locate_data(task_name: str, files: Sequence[DataFile]) -> Path:
    """The folder that holds all of a task's files, each verified.

    Args:
        task_name: For messages.
        files: What the task needs.

    Raises:
        MissingPrerequisite: no folder has them; the message has the command that fetches them.
        WrongDataError: a file has another digest.
    """
    folders = _search_path()
    for folder in folders:
        if all((folder / file.path).exists() for file in files):
            verify_folder(task_name, folder, files)
            return folder
    absent = [file.path for file in files if not (folders[0] / file.path).exists()]
    raise MissingPrerequisite(
        f"{task_name} needs {', '.join(absent)}; looked in {' and '.join(map(str, folders))}. "
        f"Run: dft eval fetch {task_name}"
    )


def verify_folder(task_name: str, folder: Path, files: Sequence[DataFile]) -> None:
    """Check every file of a task in a folder.

    Raises:
        MissingPrerequisite: one cannot be read.
        WrongDataError: one has another digest.
    """
    for file in files:
        _verify(folder / file.path, file, task_name)


def fetch_data(task_name: str, files: Sequence[DataFile]) -> Fetched:
    """Download a task's files into the cache, unless they are found already.

    Raises:
        MissingPrerequisite: the source cannot be reached.
        WrongDataError: what came, or what is there, has another digest.
    """
    for folder in _search_path():
        if all((folder / file.path).exists() for file in files):
            locate_data(task_name, files)
            return Fetched(folder, (), tuple(file.path for file in files))
    folder = cache_dir()
    downloaded, present = [], []
    for file in files:
        target = folder / file.path
        if target.exists():
            _verify(target, file, task_name)
            present.append(file.path)
        else:
            logger.info("fetching %s", file.url)
            make_folder(target.parent)
            _download(file, target, task_name)
            downloaded.append(file.path)
    return Fetched(folder, tuple(downloaded), tuple(present))


def _search_path() -> list[Path]:
    named = os.environ.get("DFT_DATA_DIR", "")
    return [*([Path(named).resolve()] if named else []), cache_dir()]


def _verify(path: Path, file: DataFile, task_name: str) -> None:
    try:
        status = path.stat()
        key = (file.algorithm, str(path), status.st_size, status.st_mtime_ns)
        if key not in _verified:
            with path.open("rb") as content:
                digest = hashlib.new(file.algorithm)
                while block := content.read(_BLOCK_BYTES):
                    digest.update(block)
            _verified[key] = digest.hexdigest()
    except OSError as error:
        raise MissingPrerequisite(
            f"{path} cannot be read: {error.strerror}. Remove it and run: dft eval fetch {task_name}"
        ) from error
    if _verified[key] != file.digest:
        raise WrongDataError(
            f"{path} has {file.algorithm} {_verified[key]}; {file.digest} is accepted: other data would give other "
            f"scores. Remove the file and run: dft eval fetch {task_name}"
        )


def _download(file: DataFile, target: Path, task_name: str) -> None:
    temporary = target.with_name(target.name + ".tmp")
    try:
        digest = _copy(file, temporary)
        if digest != file.digest:
            raise WrongDataError(
                f"{file.url} delivered {file.algorithm} {digest}; {file.digest} is accepted. Nothing was kept: the "
                "source changed, or another server answered in its place."
            )
        temporary.replace(target)
    except OSError as error:  # what urllib raises is one, too
        reason = getattr(error, "reason", None) or error
        raise MissingPrerequisite(
            f"{file.url} cannot be fetched: {reason}. On a machine with network run: dft eval fetch {task_name}; "
            f"or put the file at {target}"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _is_passing(error: BaseException) -> bool:
    """Tell a failure of connection or server, which may pass, from one of the request."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code == 429 or error.code >= 500
    return isinstance(error, (urllib.error.URLError, ConnectionError, TimeoutError))


@retry(
    retry=retry_if_exception(_is_passing),
    stop=stop_after_attempt(3),
    wait=wait_exponential(multiplier=0.5, max=8),
    reraise=True,
)
def _copy(file: DataFile, target: Path) -> str:
    """Download; the digest of what came."""
    digest = hashlib.new(file.algorithm)
    try:
        opened = urllib.request.urlopen(file.url, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        raise
    with opened as response, target.open("wb") as content:
        expected = response.headers.get("Content-Length")
        while block := response.read(_BLOCK_BYTES):
            digest.update(block)
            content.write(block)
        if expected is not None and content.tell() != int(expected):
            raise ConnectionError(f"the connection ended after {content.tell()} of {expected} bytes")
    return digest.hexdigest()
