"""A step of a study: one command, and the file that says it is done."""

from __future__ import annotations

import hashlib
import json
import shlex
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dft_eval.records.changes import compare_settings
from dft_plugin.errors import ConflictError, DftError
from dft_plugin.run_record import write_json, write_whole

SCHEMA_VERSION = 1


class JobFailedError(DftError):
    """A job's command failed, or left something else than it was asked for."""


@dataclass(frozen=True)
class Done:
    """A finished job.

    Attributes:
        fingerprint: Of everything that decided its result; later jobs are bound to it.
        wall_s: Seconds from start to end.
        cpu_s: CPU seconds of its processes.
        is_resumed: Whether it went on from what an interrupted attempt had done, whose seconds nobody counted.
    """

    fingerprint: str
    wall_s: float
    cpu_s: float
    is_resumed: bool


@dataclass(frozen=True)
class Job(ABC):
    """A step. Paths are as the study's file gives them: from the folder in which the command was called.

    Attributes:
        name: `train/dft/seed0`.
        folder: The study's.
        after: Names of jobs that must be done before.
        env: Variables set for its command; a value of None removes one.
        num_steps: Steps of its progress.
        needs_all: Whether a failed job before it stops this one; else it makes do with what there is.
    """

    name: str
    folder: Path
    after: tuple[str, ...] = ()
    env: Mapping[str, str | None] = field(default_factory=dict)
    num_steps: int = 1
    needs_all: bool = True

    @property
    def kind(self) -> str:
        """`train`, `merge`, `eval`, `scan`, `probs` or `report`."""
        return self.name.partition("/")[0]

    @property
    def record_file(self) -> Path:
        """Says that the job is done, how it went and what it was."""
        return self.folder / "jobs" / f"{self.name}.json"

    @property
    def log_file(self) -> Path:
        """Everything the command printed."""
        return self.folder / "jobs" / f"{self.name}.log"

    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """Everything that decides the result, hashes of its input files included; JSON values."""

    @abstractmethod
    def command(self) -> list[str]:
        """The command, once the jobs before it are done; before that, with placeholders where they decide."""

    def shown_command(self) -> str:
        """The command as a person types it, with the variables it needs."""
        variables = [f"{key}={shlex.quote(value)}" for key, value in self.env.items() if value is not None]
        first, *rest = self.command()
        return " ".join([*variables, shlex.quote(Path(first).name), *map(shlex.quote, rest)])

    def begin(self, fingerprint: str) -> bool:
        """Prepare an attempt, and leave a mark that tells the next one of it.

        Args:
            fingerprint: Of this attempt.

        Returns:
            Whether it goes on from what an interrupted attempt did.
        """
        mark = self.record_file.with_suffix(".begun")
        is_resumed = self.prepare(mark.is_file() and mark.read_text(encoding="utf-8") == fingerprint)
        write_whole(mark, fingerprint)
        return is_resumed

    def prepare(self, was_begun: bool) -> bool:
        """Write what the command reads; remove what an interrupted attempt left, where it cannot go on from it.

        Args:
            was_begun: Whether there was an attempt with the same fingerprint.

        Returns:
            Whether the command goes on from what that attempt did.
        """
        return False

    def finish(self) -> None:  # noqa: B027
        """Check what the command left.

        Raises:
            JobFailedError: it is not what was asked for.
        """

    def steps_done(self) -> int:
        """Steps done so far."""
        return 0

    def fingerprint(self, before: Mapping[str, Done]) -> str:
        """Hash of the settings and of the jobs before."""
        content = [self.settings(), {name: before[name].fingerprint for name in self.after if name in before}]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def load(self, before: Mapping[str, Done]) -> Done | None:
        """Return the job as it was finished earlier; None where it was not.

        Raises:
            ConflictError: it was finished with other settings.
        """
        if not self.record_file.exists():
            return None
        record = json.loads(self.record_file.read_text(encoding="utf-8"))
        fingerprint = self.fingerprint(before)
        if record["fingerprint"] != fingerprint:
            self.refuse_change(record)
            return None
        return Done(fingerprint, record["wall_s"], record["cpu_s"], record["is_resumed"])

    def refuse_change(self, record: Mapping[str, Any]) -> None:
        """Refuse to overwrite a result of other settings.

        Raises:
            ConflictError: always here; jobs that are made anew in a moment override this.
        """
        changes = compare_settings(record["settings"], json.loads(json.dumps(self.settings())))
        found = "; ".join(changes) or "what it starts from has changed"
        raise ConflictError(
            f"{self.name} in {self.folder} was done with other settings: {found}. Give the study a new `out`, or "
            f"remove {self.record_file} to do it again."
        )

    def save(self, done: Done) -> None:
        """Record that it is done."""
        content = {"schema_version": SCHEMA_VERSION, "job": self.name, "fingerprint": done.fingerprint}
        content |= {"wall_s": round(done.wall_s, 2), "cpu_s": round(done.cpu_s, 2), "is_resumed": done.is_resumed}
        write_json(self.record_file, content | {"command": self.shown_command(), "settings": self.settings()})
