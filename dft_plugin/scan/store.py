"""The folder of a scan: `scan.json` says what was asked for and, at the end, what came out; `scan.jsonl` grows.

A scan that was interrupted goes on where it stopped; one that asks for something else is refused.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dft_eval.records.changes import compare_settings
from dft_plugin.errors import ConfigError, InputError
from dft_plugin.run_record import write_json

logger = logging.getLogger(__name__)

SCHEMA = 1
Key = tuple[str, str, int]


class ScanStore:
    """Opens the folder, or makes it.

    Args:
        out: The folder.
        config: Everything that decides the numbers.

    Attributes:
        records: What is there already, by dataset, content id and repeat.

    Raises:
        ConfigError: the folder holds another scan.
        InputError: a broken record that is not the last.
    """

    def __init__(self, out: Path, config: Mapping[str, Any]) -> None:
        self.out = out
        self._config = dict(config)
        self.records: dict[Key, dict[str, Any]] = {}
        result, records = out / "scan.json", out / "scan.jsonl"
        out.mkdir(parents=True, exist_ok=True)
        if result.is_file():
            self._refuse_changes(json.loads(result.read_text(encoding="utf-8")))
            if records.is_file():
                self._read(records)
        elif records.exists():
            raise ConfigError(
                f"{records} is there without scan.json, so what it measured is not known; use a new --out."
            )
        else:
            self.write_result({"status": "running"})
        self._stream = records.open("a", encoding="utf-8")

    def append(self, key: Key, record: dict[str, Any]) -> None:
        """Add a record; it is on disk when this returns."""
        self._stream.write(json.dumps(record) + "\n")
        self._stream.flush()
        self.records[key] = record

    def write_result(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Replace `scan.json`, at once or not at all; returns its whole content."""
        whole = {"schema": SCHEMA, "config": self._config, **result}
        write_json(self.out / "scan.json", whole)
        return whole

    def close(self) -> None:
        """Close the records."""
        self._stream.close()

    def _refuse_changes(self, found: Mapping[str, Any]) -> None:
        then = {"schema": found.get("schema"), **found.get("config", {})}
        if changes := compare_settings(then, {"schema": SCHEMA, **self._config}):
            raise ConfigError(f"{self.out / 'scan.json'} differs in: {'; '.join(changes)}; use a new --out.")

    def _read(self, path: Path) -> None:
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            logger.warning("dft scan: %s: dropped a truncated last line", path)
            os.truncate(path, len(whole))
        for number, line in enumerate(whole.decode().splitlines(), 1):
            try:
                record = json.loads(line)
                self.records[(record["dataset"], record["id"], record["repeat"])] = record
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{path}, line {number}: not a record of a scan ({error}); use a new --out.") from None
