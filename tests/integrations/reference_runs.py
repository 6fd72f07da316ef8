"""References made in the test's own process, and made by a child of it that is killed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from dft_eval.run.shards import Shard
from dft_plugin.reference.run import ReferenceSettings, run_reference


def make(model: Path, settings: dict[str, Any], out: Path, shard: Shard | None = None) -> dict[str, Any]:
    """What `dft reference MODEL CONFIG.yaml --out OUT` does."""
    file = out.with_name(f"{out.name}.yaml")
    file.write_text(yaml.safe_dump(settings))
    return run_reference(ReferenceSettings(str(model), file, out, shard, device="cpu"))


def make_all(inputs: Any, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The result of `dft reference` for each kind of settings of a test's `inputs`."""
    return {
        name: make(inputs.references[inputs.kind(name)], inputs.config(name), inputs.root / f"ref-{name}")
        for name in names
    }


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def make_and_die(model: Path, settings: dict[str, Any], out: Path, after: int) -> int:
    """The same in a child that kills itself after so many rows; the signal that ended it."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        from dft_plugin.reference.model import ReferenceModel

        measure, count = ReferenceModel.reference, 0

        def reference(self: Any, file: int, row: int) -> Any:
            nonlocal count
            count += 1
            if count > after:
                os.kill(os.getpid(), signal.SIGKILL)
            return measure(self, file, row)

        ReferenceModel.reference = reference
        make(model, settings, out)
    finally:
        os._exit(1)
