"""Rows that a recipe takes of those that pass, decided from the small records of all of them."""

from __future__ import annotations

import hashlib
import heapq
from array import array
from collections.abc import Iterator
from pathlib import Path

from dft_plugin.data.recipe import Random, Recipe, Selection, Top
from dft_plugin.data.work import EXAMPLES, WorkFolder
from dft_plugin.errors import ConflictError


def order_key(selection: Selection | None, num_read: int, rating: float | None) -> float:
    """Value that a row is ordered by: a draw made from seed and row number, or minus its rating.

    Args:
        selection: Of the recipe.
        num_read: Number of the row, from 0, among all rows of the source.
        rating: Of the example.
    """
    if selection is not None and selection.random is not None:
        digest = hashlib.sha256(f"{selection.random.seed}:{num_read}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64
    return -rating if rating is not None else 0.0


def is_complete(selection: Selection | None, num_passed: int) -> bool:
    """Return True where no further row can be taken."""
    return selection is not None and selection.first is not None and num_passed >= selection.first


def selected_lines(selection: Selection | None, work: WorkFolder) -> Iterator[bytes]:
    """The lines of the rows that are taken, in the order of the source."""
    sizes, keys = array("Q"), array("d")
    for entry in work.entries():
        sizes.append(entry.num_bytes)
        keys.append(entry.key)
    chosen: set[int] | range = range(len(keys))
    if selection is not None:
        chosen = set(heapq.nsmallest(selection.num_rows, range(len(keys)), key=lambda row: (keys[row], row)))
    yield from _read_lines(work.path / EXAMPLES, sizes, chosen)


def _read_lines(path: Path, sizes: array[int], chosen: set[int] | range) -> Iterator[bytes]:
    with path.open("rb") as file:
        for row, size in enumerate(sizes):
            line = file.read(size)
            if row in chosen:
                yield line


def with_selection(recipe: Recipe, num_rows: int | None, seed: int | None) -> Recipe:
    """The recipe with another number of rows, or another seed.

    Raises:
        ConflictError: a seed where nothing is drawn.
    """
    select = recipe.select
    if seed is not None:
        if select is None or select.random is None:
            raise ConflictError(f"--seed {seed}: {recipe.name} draws no rows at random. Leave it out.")
        select = Selection(random=Random(n=select.random.n, seed=seed))
    if num_rows is not None:
        if select is None or select.first is not None:
            select = Selection(first=num_rows)
        elif select.random is not None:
            select = Selection(random=Random(n=num_rows, seed=select.random.seed))
        elif select.top is not None:
            select = Selection(top=Top(n=num_rows, by=select.top.by))
    return recipe.model_copy(update={"select": select})
