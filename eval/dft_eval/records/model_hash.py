"""Telling two checkpoints at the same place apart, without reading all of their weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

from dft_eval.errors import ConfigError

# what a trainer writes of its own course, seconds among them: the same model trained again has others
_TRAINING_LOGS = {
    "all_results.json",
    "eval_results.json",
    "logging.jsonl",
    "train_results.json",
    "trainer_log.jsonl",
    "trainer_state.json",
}
_WHOLE_BYTES = 16 << 20
_NUM_PROBES, _PROBE_BYTES = 64, 1 << 16


def check_model(model: str) -> None:
    """A folder must be there before hours of other work; a hub's name, `owner/name` at most, cannot be checked.

    Raises:
        ConfigError: it can only be a folder, and there is none.
    """
    could_be_name = model.count("/") <= 1 and not model.startswith((".", "/", "~"))
    if not could_be_name and not Path(model).is_dir():
        raise ConfigError(f"model {model!r}: no such folder. Train it first, or give another with --model.")


def hash_model(model: str) -> str | None:
    """Sha256 over a model folder: names, sizes, small files whole, big ones at 64 places; None for a hub's name.

    A training step moves every weight, so that two checkpoints differ at every place. A trainer's own logs are left
    out: they decide nothing, and hold times.
    """
    folder = Path(model)
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    files = (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    for path in sorted(path for path in files if path.name not in _TRAINING_LOGS):
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as content:
            if size <= _WHOLE_BYTES:
                digest.update(content.read())
                continue
            for probe in range(_NUM_PROBES):
                content.seek((size - _PROBE_BYTES) * probe // (_NUM_PROBES - 1))
                digest.update(content.read(_PROBE_BYTES))
    return digest.hexdigest()
