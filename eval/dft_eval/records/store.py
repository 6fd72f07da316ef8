"""A run folder: `run.json`, `generations.jsonl`, `scores.jsonl`, `metrics.json`, `problems.json`.

One process at a time writes a folder. It can be killed at any moment: run it again, and what is recorded is
not made again. Settings may not change within a folder.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from dft_eval.errors import ChangedRunError, StoreError
from dft_eval.records.changes import compare_settings
from dft_eval.records.files import make_folder, write_whole
from dft_eval.records.jsonl import JsonlLog, Key, encode_record
from dft_eval.records.provenance import describe_environment
from dft_eval.records.samples import answer_key, describe_validation, dump_answer, parse_answer
from dft_eval.records.schema import Answer, Score

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
_SCORE = TypeAdapter(with_config(ConfigDict(strict=True, extra="forbid"))(Score))


class RunFolder:
    """Paths and files of one run.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_file = path / "run.json"
        self.metrics_file = path / "metrics.json"
        self.problems_file = path / "problems.json"
        self.generations_file = path / "generations.jsonl"
        self.scores_file = path / "scores.jsonl"

    @contextmanager
    def claimed(self, settings: Mapping[str, Any]) -> Iterator[None]:
        """Hold the folder for writing with these settings.

        The first claim writes `run.json`; later ones compare with it, and add their versions where those are new. While
        the folder holds no record yet, other settings take their place: a first attempt may fail for a wrong setting.

        Args:
            settings: Everything that decides a record; JSON values.

        Raises:
            ChangedRunError: its records were made with other settings, or it holds something else.
            StoreError: another process is writing it, or `run.json` cannot be read.
        """
        make_folder(self.path)
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise StoreError(f"{self.path} is in use by another process; wait for it, or use a new --out.") from None
        except OSError as error:
            raise StoreError(f"{self.path} cannot be written: {error.strerror}; use another --out.") from error
        try:
            self._check_settings(json.loads(json.dumps(settings)))
            yield
        finally:
            lock.release()

    def generations(self) -> JsonlLog[Answer]:
        """The answers; only within `claimed`."""
        return JsonlLog(self.generations_file, parse_answer, dump_answer, answer_key)

    def scores(self) -> JsonlLog[Score]:
        """The verdicts; only within `claimed`. Answers that an earlier attempt left unjudged are taken out."""
        with JsonlLog(self.scores_file, parse_score, asdict, score_key) as log:
            kept = [score for score in log.records.values() if score.passed is not None]
            num_unjudged = len(log.records) - len(kept)
        if num_unjudged:
            logger.info("%s: %d answers without a verdict will be scored again.", self.scores_file, num_unjudged)
            write_whole(self.scores_file, b"".join(encode_record(asdict(score)) for score in kept).decode())
        return JsonlLog(self.scores_file, parse_score, asdict, score_key)

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write `metrics.json`, whole or not at all."""
        write_whole(self.metrics_file, json.dumps(metrics, indent=2, allow_nan=False) + "\n")

    def write_problems(self, problems: Mapping[str, Any] | None) -> None:
        """Write `problems.json`, whole or not at all; None, of a run without a headline, removes an earlier one.

        Raises:
            StoreError: it cannot be written or removed.
        """
        if problems is not None:
            write_whole(self.problems_file, json.dumps(problems, indent=2, allow_nan=False) + "\n")
            return
        try:
            self.problems_file.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{self.problems_file} cannot be removed: {error.strerror}.") from error

    def read_run(self) -> dict[str, Any]:
        """The content of `run.json`.

        Raises:
            StoreError: it is not there or cannot be read.
        """
        try:
            content = json.loads(self.run_file.read_text(encoding="utf-8"))
            if content["schema_version"] != SCHEMA_VERSION:
                raise StoreError(f"{self.run_file} has schema {content['schema_version']}; {SCHEMA_VERSION} is read.")
            settings, environments = dict(content["settings"]), list(content["environments"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{self.run_file} cannot be read ({error}); use a new --out.") from error
        return {"schema_version": SCHEMA_VERSION, "settings": settings, "environments": environments}

    def add_environments(self, environments: Iterable[Mapping[str, Any]]) -> None:
        """Note who else made records that are here now; only within `claimed`."""
        self._write_run(self.read_run(), environments)

    def _check_settings(self, settings: dict[str, Any]) -> None:
        content: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "settings": settings, "environments": []}
        if self.run_file.exists():
            found = self.read_run()
            differences = compare_settings(found["settings"], settings)
            if not differences:
                content = found
            elif self._has_records():
                raise ChangedRunError(f"{self.run_file} differs in: {'; '.join(differences)}; use a new --out.")
        elif strangers := sorted(path.name for path in self.path.glob("*.json*") if path.stat().st_size):
            raise ChangedRunError(f"{self.path} has no run.json but holds {strangers[0]}; use a new --out.")
        self._write_run(content, [describe_environment()])

    def _has_records(self) -> bool:
        return any(path.exists() and path.stat().st_size for path in (self.generations_file, self.scores_file))

    def _write_run(self, content: dict[str, Any], environments: Iterable[Mapping[str, Any]]) -> None:
        known = content["environments"]
        new = [environment for environment in environments if environment not in known]
        if new:
            write_whole(self.run_file, json.dumps({**content, "environments": [*known, *new]}, indent=2) + "\n")


def parse_score(line: bytes) -> Score:
    """A verdict from a line.

    Raises:
        ValueError: it is none; says why.
    """
    try:
        return _SCORE.validate_json(line)
    except ValidationError as error:
        raise ValueError(describe_validation(error)) from error


def score_key(score: Score) -> Key:
    """The id a verdict is recorded under."""
    return score.sample_id, score.repeat
