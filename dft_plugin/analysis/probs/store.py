"""The folder of `dft probs`: its settings, one file a finished checkpoint, and the result of all."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dft_eval.records.changes import compare_settings
from dft_plugin.errors import ConfigError, InputError
from dft_plugin.run_record import write_json

if TYPE_CHECKING:
    from dft_plugin.analysis.probs.tally import ProbTally

SCHEMA_VERSION = 1


class ProbsStore:
    """Opens the folder, or makes it.

    Args:
        out: The folder.
        settings: Everything that decides the numbers, without the checkpoints.

    Raises:
        ConfigError: the folder was made with other settings.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any]) -> None:
        self.out = out
        path = out / "settings.json"
        now = {"schema_version": SCHEMA_VERSION, **settings}
        if path.is_file():
            if changes := compare_settings(json.loads(path.read_text(encoding="utf-8")), now):
                raise ConfigError(f"{path} differs in: {'; '.join(changes)}; use a new --out.")
        elif (out / "checkpoints").exists() or (out / "probs.json").exists():
            raise ConfigError(
                f"{out} holds results without settings.json, so how they were made is not known; use a new --out."
            )
        else:
            write_json(path, now)

    def finished(self, name: str, identity: Mapping[str, Any]) -> tuple[ProbTally, dict[str, Any]] | None:
        """A checkpoint that was measured before, or None.

        Raises:
            ConfigError: another checkpoint was measured under this name.
            InputError: its file is broken.
        """
        from dft_plugin.analysis.probs.tally import ProbTally

        path = self._path(name)
        if not path.is_file():
            return None
        try:
            tally, record = ProbTally.load(path)
        except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} cannot be read ({error}); delete it, and run the same command again.") from None
        if changes := compare_settings(record["identity"], identity):
            raise ConfigError(
                f"{path} was made from another checkpoint {name!r}: {'; '.join(changes)}; use another name or a new "
                "--out."
            )
        return tally, record

    def add(self, name: str, tally: ProbTally, record: Mapping[str, Any]) -> None:
        """Keep a finished checkpoint, whole or not at all."""
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_bytes(tally.dump(record))
        temporary.replace(path)

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write `probs.json`, whole or not at all."""
        write_json(self.out / "probs.json", result)

    def _path(self, name: str) -> Path:
        return self.out / "checkpoints" / f"{name}.npz"
