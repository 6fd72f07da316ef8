"""Training runs of a study through the frameworks' command lines, and merging their adapters."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from dft_eval.records.model_hash import hash_model
from dft_plugin import __version__
from dft_plugin.run_record import RECORD_NAME, write_whole
from dft_plugin.study.frameworks import Trainer, last_checkpoint
from dft_plugin.study.job import Job, JobFailedError


@dataclass(frozen=True, kw_only=True)
class TrainJob(Job):
    """One training run.

    Attributes:
        trainer: Whose command line trains.
        keys: The framework's keys, model and seed among them.
        launcher: See `ArmConfig`.
        starts_from: The run whose model it starts from; None: `keys` name a model that is there.
    """

    trainer: Trainer
    keys: Mapping[str, Any]
    launcher: tuple[str, ...] = ()
    starts_from: TrainJob | None = None

    @property
    def output(self) -> Path:
        """Folder the framework writes to."""
        return self.folder / self.name

    @property
    def file(self) -> Path:
        """The configuration it is trained by; running it by hand trains the same."""
        return self.record_file.with_suffix(".yaml")

    @property
    def model(self) -> Path:
        """Folder of the trained model, adapters merged."""
        return self.merged if self.is_adapter else self.trainer.trained_model(self.output)

    @property
    def is_done(self) -> bool:
        """True where it was trained, and merged where it has to be."""
        return self.record_file.exists() and (self.model / "config.json").is_file()

    @property
    def depth(self) -> int:
        """Number of runs before it."""
        return 0 if self.starts_from is None else 1 + self.starts_from.depth

    @property
    def is_adapter(self) -> bool:
        """True where training leaves adapters."""
        return self.trainer.is_adapter(self.keys)

    @property
    def merged(self) -> Path:
        """Folder that adapters are merged to."""
        return self.folder / "merge" / self.name.partition("/")[2]

    @cached_property
    def _inputs(self) -> dict[str, Any]:
        model = None if self.starts_from else hash_model(str(self.keys[self.trainer.model_key]))
        return {"model_hash": model, "data_sha256": self.trainer.data_sha256(self.keys)}

    def settings(self) -> dict[str, Any]:
        """The framework's keys and the hashes of model and data."""
        content = {
            "framework": self.trainer.title,
            "keys": {key: value for key, value in self.keys.items() if key != "output_dir"},
            **self._inputs,
            "launcher": list(self.launcher),
            "env": {key: value for key, value in self.env.items() if value is not None},
            "dft_plugin": __version__,
        }
        # a study's folder may be moved
        moved: dict[str, Any] = json.loads(json.dumps(content).replace(f'"{self.folder}/', '"{study}/'))
        return moved

    def command(self) -> list[str]:
        """The framework's own."""
        return self.trainer.train_command(self.file, self.all_keys(), self.launcher)

    def prepare(self, was_begun: bool) -> bool:
        """Write the configuration; go on from the last whole checkpoint of an attempt with the same settings."""
        is_resumed = was_begun and last_checkpoint(self.output) is not None
        if not is_resumed:
            shutil.rmtree(self.output, ignore_errors=True)
        text = yaml.safe_dump(self.all_keys(), sort_keys=False, allow_unicode=True)
        write_whole(self.file, text)
        return is_resumed

    def finish(self) -> None:
        """Check that the asked loss was trained and a model was left.

        Raises:
            JobFailedError: it is not so.
        """
        trained = self.trainer.trained_model(self.output)
        if not (trained / ("adapter_config.json" if self.is_adapter else "config.json")).is_file():
            raise JobFailedError(f"{self.name} left no model in {trained}; see {self.log_file}, and its save_strategy.")
        wanted = self.keys.get("loss_type")
        if wanted is not None and (found := read_record(self.output).get("loss_type")) != wanted:
            raise JobFailedError(
                f"{self.name} was asked for loss_type {wanted} and trained {found}; see {self.log_file}."
            )

    def steps_done(self) -> int:
        """Optimiser steps so far, in parts of `num_steps`, as the framework's own log counts them."""
        for name in ("trainer_log.jsonl", "logging.jsonl"):
            with suppress(OSError, ValueError, KeyError, IndexError, TypeError):
                return _progress(self.output / name, self.num_steps)
        return 0

    def all_keys(self) -> dict[str, Any]:
        """The framework's keys as they stand now: the model it starts from, the checkpoint it goes on from."""
        keys = dict(self.keys)
        if self.starts_from is not None:
            keys[self.trainer.model_key] = str(self.starts_from.model)
        if (checkpoint := last_checkpoint(self.output)) is not None:
            keys["resume_from_checkpoint"] = str(checkpoint)
        return keys


@dataclass(frozen=True, kw_only=True)
class MergeJob(Job):
    """Adapters written into the weights they were trained on, for evaluators that need whole models.

    Attributes:
        train: The run that left them.
    """

    train: TrainJob

    def settings(self) -> dict[str, Any]:
        """Nothing of its own: it follows from the run before it."""
        return {"merges": self.train.name}

    def command(self) -> list[str]:
        """The framework's own."""
        adapter = self.train.trainer.trained_model(self.train.output)
        return self.train.trainer.merge_command(self.train.all_keys(), str(adapter), self.train.merged)

    def prepare(self, was_begun: bool) -> bool:
        """Remove what an interrupted attempt left; the frameworks refuse a folder that is there."""
        shutil.rmtree(self.train.merged, ignore_errors=True)
        return False

    def finish(self) -> None:
        """Check that there is a model.

        Raises:
            JobFailedError: there is none.
        """
        if not (self.train.merged / "config.json").is_file():
            raise JobFailedError(f"{self.name} left no model in {self.train.merged}; see {self.log_file}.")


def read_record(output: Path) -> dict[str, Any]:
    """The plugin's record in a training folder; empty for a run without `loss_type`."""
    places = [output / RECORD_NAME, *sorted(output.glob(f"checkpoint-*/{RECORD_NAME}"))]
    found = next((path for path in places if path.is_file()), None)
    return {} if found is None else dict(json.loads(found.read_text(encoding="utf-8")))


def _progress(log: Path, most: int) -> int:
    """The last line's step over its total, in parts of `most`."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        record = json.loads(file.read().splitlines()[-1])
    if "current_steps" in record:
        return round(most * int(record["current_steps"]) / int(record["total_steps"]))
    step, total = str(record["global_step/max_steps"]).split("/")
    return round(most * int(step) / int(total))
