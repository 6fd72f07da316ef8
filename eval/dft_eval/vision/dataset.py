"""Description of a benchmark for VLMEvalKit's process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class VlmevalDataset:
    """One benchmark of VLMEvalKit.

    Attributes:
        task_name: Our name of it, for messages.
        name: VLMEvalKit's name.
        class_name: VLMEvalKit's class.
        tsv: Its file.
        ids: Sample ids in the order of the file.
        calls_per_answer: Calls of a judge an answer takes at most, where each reply can be read.
    """

    task_name: str
    name: str
    class_name: str
    tsv: Path
    ids: tuple[str, ...]
    calls_per_answer: int

    def describe(self) -> dict[str, Any]:
        """Return the part of a job that says which dataset to build."""
        return {"dataset": self.name, "class": self.class_name, "tsv": str(self.tsv.resolve()), "ids": list(self.ids)}
