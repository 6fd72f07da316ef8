"""Splitting a run over machines: each works on its share in its own folder, one command merges them.

Shard i of n holds the samples at positions i, i + n, i + 2n, ... of the benchmark, in `RUN/shards/i-of-n`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dft_eval.errors import ChangedRunError, ConfigError, StoreError
from dft_eval.records.changes import compare_settings
from dft_eval.records.jsonl import JsonlLog
from dft_eval.records.store import RunFolder

Item = TypeVar("Item")
Record = TypeVar("Record")


@dataclass(frozen=True)
class Shard:
    """One share of the samples.

    Attributes:
        index: From 0.
        count: Of how many.
    """

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def select(self, items: Sequence[Item]) -> list[Item]:
        """This shard's items."""
        return list(items[self.index :: self.count])

    def folder(self, run: Path) -> Path:
        """Return the shard's folder below a run."""
        return run / "shards" / f"{self.index}-of-{self.count}"


def parse_shard(text: str) -> Shard:
    """`i/n` with i from 0.

    Raises:
        ConfigError: it is not that.
    """
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if match is None or not int(match[1]) < int(match[2]):
        raise ConfigError(f"--shard {text!r}; i/n with i from 0 to n-1 is accepted, for example 0/4, 1/4, 2/4, 3/4.")
    return Shard(int(match[1]), int(match[2]))


def check_shards(run: RunFolder, settings: Mapping[str, Any]) -> None:
    """Refuse to merge what does not belong together, before the run folder is claimed.

    Args:
        run: The run folder.
        settings: Its settings; the shards' must be the same but for `shard`.

    Raises:
        ChangedRunError: a shard was made with other settings.
    """
    for shard in _shard_folders(run):
        found = shard.read_run()["settings"]
        if differences := compare_settings({**found, "shard": None}, {**settings, "shard": None}):
            raise ChangedRunError(f"{shard.run_file} differs from this run in: {'; '.join(differences)}.")


def merge_shards(run: RunFolder) -> None:
    """Take what the shards below a run recorded into the run; doing it again changes nothing.

    Args:
        run: The claimed run folder.

    Raises:
        StoreError: a shard is still being written, or contradicts what is recorded.
    """
    for shard in _shard_folders(run):
        with shard.claimed(shard.read_run()["settings"]):
            with shard.generations() as source, run.generations() as target:
                _take_in(source, target)
            with shard.scores() as source_scores, run.scores() as target_scores:
                _take_in(source_scores, target_scores)
            run.add_environments(shard.read_run()["environments"])


def _shard_folders(run: RunFolder) -> list[RunFolder]:
    return [RunFolder(path) for path in sorted((run.path / "shards").glob("*-of-*"))]


def _take_in(source: JsonlLog[Record], target: JsonlLog[Record]) -> None:
    for identity, record in source.records.items():
        if target.records.get(identity, record) != record:
            raise StoreError(f"{source.path} and {target.path} differ in {identity}; merge into a new --out.")
    target.append(record for identity, record in source.records.items() if identity not in target.records)
