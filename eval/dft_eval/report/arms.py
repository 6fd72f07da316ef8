"""`arm.json`: what made the model whose runs lie beside it, and what its training left."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dft_eval.errors import StoreError

NAME = "arm.json"
_MONITOR = "dft_monitor.jsonl"


@dataclass(frozen=True)
class About:
    """One model of an arm.

    Attributes:
        path: The file.
        arm: Name of the arm.
        seed: Of its training; None where there is one model for all seeds of the others.
        failed: Why there are no runs, or not all; None where nothing failed.
        content: All of the file.
    """

    path: Path
    arm: str
    seed: int | None
    failed: str | None
    content: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Arm and seed."""
        return name_of(self.arm, self.seed)

    @property
    def grid_of(self) -> str | None:
        """The arm whose grid this one is a combination of; None where it is none."""
        grid = self.content.get("grid")
        return None if not grid else str(grid["arm"])

    @property
    def training(self) -> Path | None:
        """The folder of its training, if there is one."""
        given = self.content.get("training")
        return None if not given else self.path.parent / str(given)

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        path = None if self.training is None else self.training / _MONITOR
        if path is None or not path.is_file():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]

    @property
    def monitor_rows(self) -> list[dict[str, Any]]:
        """Rows of the monitor in training, one a logging step; none where there is no such file."""
        return [row for row in self._rows if row.get("mode") == "train"]

    @property
    def held_out_rows(self) -> dict[str, list[dict[str, Any]]]:
        """Rows of the monitor in the trainer's own evaluations, by evaluation set: "" where there is but one."""
        found: dict[str, list[dict[str, Any]]] = {}
        for row in self._rows:
            if (mode := str(row.get("mode"))).startswith("eval"):
                found.setdefault(mode.removeprefix("eval").removeprefix("_"), []).append(row)
        return found

    @property
    def alarms(self) -> list[str]:
        """The monitor's alarms, each once."""
        return list(dict.fromkeys(str(_text(alarm)) for row in self.monitor_rows for alarm in row.get("alarms", ())))


def name_of(arm: str, seed: int | None) -> str:
    """A model of an arm in words."""
    return arm if seed is None else f"{arm}, seed {seed}"


def find_about(run: Path, given: Path) -> About | None:
    """The nearest `arm.json` between a run folder and the path that was given; None where there is none."""
    top = given.resolve()
    for folder in [run.resolve(), *run.resolve().parents]:
        if (folder / NAME).is_file():
            return read_about(folder / NAME)
        if folder == top:
            return None
    return None


def find_all(paths: Sequence[Path]) -> list[About]:
    """Every `arm.json` at or below the paths, each once."""
    files = {file.resolve(): file for path in paths for file in sorted(path.rglob(NAME))}
    return [read_about(file) for file in files.values()]


def read_about(path: Path) -> About:
    """Read an `arm.json`.

    Raises:
        StoreError: it is not one.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema_version"] != 1 or not isinstance(content["arm"], str) or not content["arm"]:
            raise ValueError("another schema")
        seed = content.get("seed")
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
            raise ValueError(f"seed {seed!r}")
        failed = content.get("failed")
        return About(path, content["arm"], seed, None if failed is None else str(failed), content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} cannot be read ({error}); see docs/reports.md for what it holds.") from error


def _text(alarm: Any) -> Any:
    return alarm.get("message", alarm.get("name", alarm)) if isinstance(alarm, Mapping) else alarm
