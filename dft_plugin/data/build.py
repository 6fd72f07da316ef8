"""`dft data build`: rows of a source in, a data file of one framework and its manifest out.

Rows are read in order, a batch at a time. What passes is appended to the work folder with a small record of each, so
that memory stays constant and a killed build goes on. The selection is made at the end from those records.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from dft_plugin import __version__
from dft_plugin.data.columns import RowProblem
from dft_plugin.data.decontamination import Contamination, EvaluationSet, load_evaluation_sets
from dft_plugin.data.examples import Example, ExampleMaker
from dft_plugin.data.image_files import ImageFolder
from dft_plugin.data.outputs import add_lengths, finish, read_finished
from dft_plugin.data.recipe import Recipe
from dft_plugin.data.selection import is_complete, order_key
from dft_plugin.data.sources import Batch, FoundSource, SourceFile, find_local, find_published, read_batches
from dft_plugin.data.work import EXAMPLES, NOTES, Entry, WorkFolder
from dft_plugin.errors import ConfigError, ConflictError, InputError, StorageError

logger = logging.getLogger(__name__)

Format = Literal["llamafactory", "ms_swift"]
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class BuildSettings:
    """Settings of a build.

    Attributes:
        recipe: The recipe, selection and seed as asked for.
        format: Whose data file is written.
        out: Folder of the result.
        local: Files or folders instead of what the recipe names.
        revision: Commit instead of the recipe's.
        image_dir: Folder that the images' paths start from.
        tokenizer: Name or folder of a tokenizer that lengths are counted with.
        decontaminate: Tasks of `dft eval list`; rows that hold one of their questions are left out.
    """

    recipe: Recipe
    format: Format
    out: Path
    local: tuple[Path, ...] = ()
    revision: str | None = None
    image_dir: Path | None = None
    tokenizer: str | None = None
    decontaminate: tuple[str, ...] = ()


def build(settings: BuildSettings) -> dict[str, Any]:
    """Build a dataset, or go on with a build that was killed; a finished one is returned as it is.

    Returns:
        The manifest.

    Raises:
        ConfigError: the settings cannot be carried out.
        ConflictError: the folder belongs to another build.
        InputError: the source is damaged, or too few rows passed.
        MissingPrerequisiteError: the source or a package is not there.
        StorageError: the folder cannot be written, for example because the disk is full.
    """
    _check_settings(settings)
    source = _find_source(settings)
    sets = load_evaluation_sets(settings.decontaminate)
    identity = _identity(settings, source, sets)
    with _writing_to(settings.out):
        if (manifest := read_finished(settings.out, identity)) is not None:
            logger.info("%s is finished already, with these settings.", settings.out)
            return add_lengths(settings.out, manifest, settings.tokenizer)
        settings.out.mkdir(parents=True, exist_ok=True)
        with WorkFolder(settings.out, identity) as work:
            run = _Run(settings, source, Contamination(sets), work)
            run.read()
            manifest = finish(settings.out, work, identity, run.report(), settings.recipe)
            work.remove()
        return add_lengths(settings.out, manifest, settings.tokenizer)


def _check_settings(settings: BuildSettings) -> None:
    recipe = settings.recipe
    if settings.local and settings.revision is not None:
        raise ConflictError("--from and --revision; local files have no revision. Give one of the two.")
    if recipe.images and settings.image_dir is None:
        raise ConfigError(f"{recipe.name} has images; name the folder that their paths start from by --image-dir.")
    if settings.image_dir is not None and not recipe.images:
        raise ConfigError(f"--image-dir {settings.image_dir}: {recipe.name} has no images. Leave it out.")


def _find_source(settings: BuildSettings) -> FoundSource:
    if settings.local:
        return find_local(settings.local)
    return find_published(settings.recipe.source, settings.revision)


def _identity(settings: BuildSettings, source: FoundSource, sets: Mapping[str, EvaluationSet]) -> dict[str, Any]:
    """All that decides the bytes of the result, in words that hold on every machine."""
    return {
        "dft_plugin": __version__,
        "recipe": settings.recipe.model_dump(mode="json", exclude={"variants"}, exclude_none=True),
        "source": source.record,
        "format": settings.format,
        "decontaminated_of": {name: each.record() for name, each in sets.items()},
    }


@contextmanager
def _writing_to(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        if error.errno in _FULL:
            raise StorageError(
                f"no room to write in {out} ({error.strerror}). What was built so far is intact: make room and run the "
                "same command again."
            ) from error
        raise StorageError(f"{out} cannot be written: {error.strerror or error}; give another --out.") from error


class _Run:
    """Reading one source to its end, or to the last row that can be taken."""

    def __init__(
        self, settings: BuildSettings, source: FoundSource, contamination: Contamination, work: WorkFolder
    ) -> None:
        self._contamination = contamination
        self._recipe, self._source, self._work = settings.recipe, source, work
        self._maker = ExampleMaker(settings.recipe)
        self._images = ImageFolder(settings.image_dir)
        state = work.state
        self._at_file, self._at_row = state.get("file", 0), state.get("row", 0)
        self._counts = Counter(state.get("counts", {}))
        self._is_read = state.get("is_read", False)
        self._questions = {entry.question for entry in work.entries()}
        if state:
            logger.info("going on after %d rows of an interrupted build.", self._counts["read"])

    def read(self) -> None:
        """Read what is left of the source."""
        bar = tqdm(desc=self._recipe.name, unit=" rows", initial=self._counts["read"], disable=None)
        with bar:
            for index in range(self._at_file, len(self._source.files)):
                if self._is_read:
                    break
                self._read_file(index, bar)
        if not self._is_read:
            self._check_end()
            self._is_read = True
            self._commit(len(self._source.files), 0)

    def report(self) -> dict[str, Any]:
        """Counts for the manifest."""
        read, passed = self._counts["read"], self._counts["passed"]
        noted = {key: count for key, count in sorted(self._counts.items()) if key not in ("read", "passed", "images")}
        report: dict[str, Any] = {"read": read, "passed": passed, "noted": noted}
        return {**report, "images": self._counts["images"]} if self._recipe.images else report

    def _read_file(self, index: int, bar: Any) -> None:
        file = self._source.files[index]
        start, self._at_row = self._at_row, 0
        for batch in read_batches(file, self._maker.columns, start):
            num_done = self._take(file, batch)
            bar.update(num_done)
            self._is_read = is_complete(self._recipe.select, self._counts["passed"])
            self._commit(index, batch.first_row + num_done)
            if self._is_read:
                return

    def _take(self, file: SourceFile, batch: Batch) -> int:
        """Append what passes of a batch; how many of its rows were looked at."""
        lines: list[bytes] = []
        entries: list[Entry] = []
        for offset, row in enumerate(batch.rows):
            if is_complete(self._recipe.select, self._counts["passed"]):
                break
            self._counts["read"] += 1
            try:
                line, entry = self._pass(file, batch.first_row + offset, row)
            except RowProblem as problem:
                self._note(file, batch.first_row + offset, problem, is_kept=False)
                continue
            lines.append(line)
            entries.append(entry)
            self._counts["passed"] += 1
        else:
            offset = len(batch.rows)
        self._work.append(EXAMPLES, b"".join(lines))
        self._work.append_entries(entries)
        return offset

    def _pass(self, file: SourceFile, number: int, row: dict[str, Any] | RowProblem) -> tuple[bytes, Entry]:
        if isinstance(row, RowProblem):
            raise row
        example = self._maker.make(row)
        line = _encode(example)
        self._contamination.check(example.question, example.prompt, example.response)
        question = _digest(example)
        if question in self._questions:
            problem = RowProblem("duplicate_question", "an earlier row asks the same")
            if self._recipe.duplicates == "drop":
                raise problem
            self._note(file, number, problem, is_kept=True)
        self._images.check(example.images)
        self._counts["images"] += len(example.images)
        self._questions.add(question)
        return line, Entry(
            question, order_key(self._recipe.select, self._counts["read"] - 1, example.rating), len(line)
        )

    def _note(self, file: SourceFile, number: int, problem: RowProblem, *, is_kept: bool) -> None:
        self._counts[problem.reason] += 1
        note = {
            "file": file.name,
            "row": number,
            "reason": problem.reason,
            "detail": problem.detail,
            "is_kept": is_kept,
        }
        self._work.append(NOTES, json.dumps(note).encode() + b"\n")

    def _commit(self, file: int, row: int) -> None:
        self._work.commit({"file": file, "row": row, "counts": dict(self._counts), "is_read": self._is_read})

    def _check_end(self) -> None:
        read, passed, expected = self._counts["read"], self._counts["passed"], self._source.num_rows
        if expected is not None and read != expected:
            raise InputError(
                f"the source has {read} rows; {expected} are there at the pinned revision. A download was cut off, or "
                "the upstream data changed: clear the hub's cache and run again."
            )
        if self._source.record["kind"] == "local" and self._recipe.source.rows not in (None, read):
            logger.warning("the files have %d rows, the published dataset has %d.", read, self._recipe.source.rows)
        wanted = 1 if self._recipe.select is None else self._recipe.select.num_rows
        if passed < wanted:
            left_out = ", ".join(f"{count} {reason}" for reason, count in self.report()["noted"].items()) or "none"
            raise InputError(
                f"{passed} of {read} rows passed; {wanted} are to be taken. Left out or noted: {left_out}. Give more "
                f"files, or --rows {max(passed, 1)} for a smaller dataset."
            )


def _encode(example: Example) -> bytes:
    try:
        return json.dumps(example.record(), ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError as error:
        raise RowProblem("not_unicode", f"half of a surrogate pair at character {error.start}") from None


def _digest(example: Example) -> int:
    text = "\0".join((" ".join(example.question.split()), *example.images))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
