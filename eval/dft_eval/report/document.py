"""A report as a structure: tables, figures and text, never a task or a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Tone = Literal["", "good", "bad", "open"]


@dataclass(frozen=True)
class Cell:
    """A table cell.

    Attributes:
        text: What it says.
        note: Smaller, below it: an interval, say.
        tone: How a verdict is coloured; the text says the same in words.
        is_part: In a row's first cell: whether the row is a part of the one above, and shown below it, indented.
    """

    text: str
    note: str = ""
    tone: Tone = ""
    is_part: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        columns: Headings; the first column names the row.
        rows: Cells, as many a row as there are headings.
        note: What to know when reading it.
        title: Its caption.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    title: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row of {len(row)} cells in a table of {len(self.columns)} columns: {row[0].text}")


@dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
        title: What it shows.
        caption: How to read it.
        svg: The drawing, without anything loaded from elsewhere.
        narrow_svg: The same drawn for a narrow screen; empty where one drawing, as wide as half a page, serves both.
    """

    title: str
    caption: str
    svg: str = field(repr=False)
    narrow_svg: str = field(default="", repr=False)


@dataclass(frozen=True)
class Change:
    """A stretch of two texts: in both, or in one alone.

    Attributes:
        kind: Where it stands.
        text: What it says.
    """

    kind: Literal["same", "removed", "added"]
    text: str


@dataclass(frozen=True)
class Example:
    """Two texts, one shown as changes of the other.

    Attributes:
        title: What they are.
        before: Whose text the removed stretches are.
        after: Whose text the added stretches are.
        changes: Both texts.
    """

    title: str
    before: str
    after: str
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        title: Its heading.
        paragraphs: Text before the rest.
        tables: Its tables.
        figures: Its figures.
        examples: Pairs of texts.
    """

    title: str
    paragraphs: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True)
class Fact:
    """One headline number.

    Attributes:
        value: The number, formatted.
        label: What it is.
        note: Its uncertainty or its reading.
        tone: As in `Cell`.
    """

    value: str
    label: str
    note: str = ""
    tone: Tone = ""


@dataclass(frozen=True)
class Report:
    """All of it.

    Attributes:
        title: Of the page.
        headline: The finding in one or two sentences.
        facts: The headline numbers.
        banners: Warnings the reader must not miss.
        sections: The body.
        limits: What the report does not show.
        commands: Shell lines that repeat it.
        provenance: Versions, settings, hashes.
        results: Every number unrounded, for machines; in the JSON alone.
    """

    title: str
    headline: str
    facts: tuple[Fact, ...] = ()
    banners: tuple[str, ...] = ()
    sections: tuple[Section, ...] = ()
    limits: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)
