"""The TSV files of VLMEvalKit's benchmarks, without their images."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from dft_eval.errors import ConfigError

_LONGEST_FIELD = 1 << 30
_LONGEST_NAME = 64
"""A text this short in the image column is no image but names the row that has it; as VLMEvalKit reads it."""


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a file in its order; of an image only that it is there is looked at.

    Args:
        path: The TSV.
        columns: Which it must have, besides `index` and `image`.

    Raises:
        ConfigError: a column is missing, an index comes twice, or a row has no image.
    """
    csv.field_size_limit(_LONGEST_FIELD)
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t")
        names = reader.fieldnames or []
        if absent := [name for name in ("index", "image", *columns) if name not in names]:
            raise ConfigError(f"{path} has no column {', '.join(absent)}; it is not the file of this benchmark.")
        rows: dict[str, dict[str, str]] = {}
        named: dict[str, str] = {}
        for number, row in enumerate(reader, start=1):
            index = row["index"]
            if not index or index in rows or None in row.values():
                raise ConfigError(f"{path}, record {number}: index {index!r} is absent, repeated, or its row cut off.")
            image = row.pop("image")
            rows[index] = row
            if len(image) <= _LONGEST_NAME:
                named[index] = image
    if lacking := [index for index, name in named.items() if name not in rows or name in named]:
        raise ConfigError(f"{path}: {len(lacking)} rows have no image: {', '.join(lacking[:5])}.")
    return list(rows.values())
