"""Rows of a training configuration's data as its own framework tokenizes them, one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from dft_plugin.errors import ConfigError


@dataclass(frozen=True)
class DataFile:
    """One file of the training or the evaluation data.

    Attributes:
        name: What the configuration calls it; of a file named by its path, the name without its ending.
        path: The file, .json or .jsonl.
        num_rows: Its first rows, as many as are trained on.
        is_whole: Whether those are all.
    """

    name: str
    path: Path
    num_rows: int
    is_whole: bool = True


class FrameworkRow(NamedTuple):
    """One tokenized row.

    Attributes:
        input_ids: Token ids; empty where the framework drops the row.
        labels: The same, or -100 where nothing is trained.
        media: Its images, videos and sounds.
        sample: Whatever the framework makes its batches of.
        skipped: Why the framework drops the row; empty where it does not.
    """

    input_ids: Sequence[int] = ()
    labels: Sequence[int] = ()
    media: Sequence[Any] = ()
    sample: Any = None
    skipped: str = ""


class FrameworkRows(Protocol):
    """The data of one training configuration.

    Attributes:
        framework: Distribution name.
        tokenizer: The run's transformers tokenizer, as the framework loads it.
        made_with: Settings that decide the tokens, as words for a person.
        files: Every file, in the configuration's order.
        is_multimodal: Whether the rows go through a processor.
    """

    framework: str
    tokenizer: Any
    made_with: str
    files: tuple[DataFile, ...]
    is_multimodal: bool

    def encode(self, file: int, row: int) -> FrameworkRow:
        """Row number `row` of file number `file`, both from 0."""

    def use_model(self, model: Any) -> None:
        """Prepare batches for this model."""

    def batch(self, row: FrameworkRow) -> Mapping[str, Any]:
        """The model's inputs for the row alone, with `labels`."""

    def write_beside(self, out: Path) -> None:
        """Write what the framework needs beside the data files in `out`."""

    def changes(self, out: Path) -> dict[str, Any]:
        """Settings of the configuration to change so that it trains on the files in `out`."""


def refuse_other_model(settings: Mapping[str, Any], names: Iterable[str]) -> None:
    """Refuse settings under which the run's model is not the frozen one.

    Args:
        settings: The training configuration.
        names: The framework's settings that change a model's own forward or vocabulary.

    Raises:
        ConfigError: one of them is set.
    """
    for name in names:
        if settings.get(name):
            raise ConfigError(
                f"{name}={settings[name]!r} makes the run's model another one than the frozen model as it is saved. "
                "Save the model with that change, train from it, and remove the setting."
            )
