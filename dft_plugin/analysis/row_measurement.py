"""The common part of measuring rows of data files: what has to be installed, and what decides the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from dft_plugin.analysis.pretrained import require_packages
from dft_plugin.encoding.datasets import Dataset


class RowSettings(Protocol):
    """Settings that every such verb has."""

    @property
    def samples(self) -> int:
        """Rows of each file."""

    @property
    def max_length(self) -> int:
        """Most tokens of a row."""

    @property
    def dtype(self) -> str:
        """Of the models' computations."""

    @property
    def seed(self) -> int:
        """Of the sample."""


def require_for_rows(verb: str, datasets: Sequence[Dataset]) -> bool:
    """Stop before anything is measured where a package is missing; returns whether a row has images.

    Raises:
        MissingPrerequisiteError: with the line that installs it.
    """
    with_images = any(row.images for dataset in datasets for row in dataset.rows)
    images = {"PIL": "pillow"} if with_images else {}
    require_packages(verb, {"torch": "torch", "transformers": "transformers", "matplotlib": "matplotlib", **images})
    return with_images


def describe_rows(settings: RowSettings, datasets: Sequence[Dataset], device: str, interface: str) -> dict[str, Any]:
    """Everything that decides the numbers besides the models; how many rows go at a time does not."""
    return {
        "data": {dataset.name: {"sha256": dataset.sha256, "format": dataset.format} for dataset in datasets},
        "samples": settings.samples,
        "max_length": settings.max_length,
        "dtype": settings.dtype,
        "device": device,
        "seed": settings.seed,
        "protocol": interface,
    }
