"""Answers from a file, in place of a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from dft_eval.backends.base import Backend, BackendSettings, Interface, Request, SamplingParams
from dft_eval.errors import BackendError
from dft_eval.records.samples import answer_key, read_answers
from dft_eval.records.schema import Answer

_BATCH_SIZE = 64


class ReplaySettings(BackendSettings):
    """Answers from a file, as `dft eval score --samples` reads them.

    Attributes:
        samples: The file; `{task}` in it stands for the task's name with `_` for `/`.
    """

    model_at: ClassVar[Literal["here", "server", "nowhere"]] = "nowhere"

    reads_continuations: ClassVar[bool] = True

    kind: Literal["replay"]
    samples: Path

    def make(self, model: str, interface: Interface, sampling: SamplingParams) -> Backend:
        """Open the file when the first answer is wanted."""
        return ReplayBackend(self.samples)

    def for_task(self, task_name: str) -> BackendSettings:
        """Return the settings with the task's file."""
        return ReplaySettings(kind="replay", samples=fill_in_task(self.samples, task_name))


def fill_in_task(path: Path, task_name: str) -> Path:
    """Return a path with `{task}` replaced by a benchmark's name, `_` for `/`."""
    return Path(str(path).replace("{task}", task_name.replace("/", "_")))


class ReplayBackend:
    """Gives the recorded answer to each request.

    Args:
        path: The JSONL file; it must hold every answer asked for.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Answer]]:
        """The recorded answers."""
        recorded = {answer_key(answer): answer for answer in read_answers(self._path, None)}
        for start in range(0, len(requests), _BATCH_SIZE):
            batch = []
            for request in requests[start : start + _BATCH_SIZE]:
                if request.key not in recorded:
                    raise BackendError(f"{self._path} holds no answer to {request.key}.")
                batch.append(recorded[request.key])
            yield batch

    def close(self) -> None:
        """Nothing to free."""
