"""A report as a structure, written as JSON (canonical), Markdown and one self-contained HTML page.

Knows tables, figures and text, never a task or a model. Markdown and HTML are made from the same structure
that the JSON states in full, so they cannot disagree with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jinja2
from markupsafe import Markup

from dft_eval.records.files import write_whole

SCHEMA_VERSION = 1
Tone = Literal["", "good", "bad", "open"]

_OUTSIDE = re.compile(r"<script|\bon\w+\s*=|(?:href|src)\s*=\s*[\"'](?!#|data:)|url\((?!#)", re.IGNORECASE)
_TEMPLATES = Path(__file__).parent / "templates"
SCHEMA = Path(__file__).parent / "report.schema.json"
"""Of the `report.json` of a comparison."""


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
        is_wide: Whether a narrow screen scrolls it instead of shrinking it.
    """

    title: str
    caption: str
    svg: str = field(repr=False)
    is_wide: bool = False


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


class ReportFiles(NamedTuple):
    """Files of a written report."""

    json: Path
    markdown: Path
    html: Path


def write_report(report: Report, folder: Path) -> ReportFiles:
    """Write `report.json`, `report.md` and `report.html`, each whole or not at all."""
    files = ReportFiles(*(folder / f"report.{ending}" for ending in ("json", "md", "html")))
    for path, text in zip(files, (render_json(report), render_markdown(report), render_html(report)), strict=True):
        write_whole(path, text)
    return files


def render_json(report: Report) -> str:
    """The canonical form: everything but the drawings.

    Raises:
        ValueError: a number that is not finite; JSON has no word for it.
    """
    content = {"schema_version": SCHEMA_VERSION, **asdict(report)}
    for section in content["sections"]:
        for figure in section["figures"]:
            del figure["svg"]
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def render_markdown(report: Report) -> str:
    """The report as GitHub-flavoured Markdown; figures by title and caption."""
    return _environment(autoescape=False).get_template("report.md.j2").render(report=report)


def render_html(report: Report) -> str:
    """The report as one HTML page that loads nothing.

    Raises:
        ValueError: a drawing that would load or run something.
    """
    for section in report.sections:
        for figure in section.figures:
            if _OUTSIDE.search(figure.svg):
                raise ValueError(f"figure {figure.title!r} refers to something outside the page, or runs a script.")
    return _environment(autoescape=True).get_template("report.html.j2").render(report=report)


def _environment(*, autoescape: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["drawing"] = Markup
    environment.filters["cell"] = _markdown_cell
    environment.filters["example"] = _markdown_example
    return environment


def _markdown_cell(cell: Cell) -> str:
    text = f"{cell.text} {cell.note}" if cell.note else cell.text
    mark = "\N{DOWNWARDS ARROW WITH TIP RIGHTWARDS} " if cell.is_part else ""
    return mark + re.sub(r"([\\|`*_<>\[\]])", r"\\\1", text).replace("\n", " ")


def _markdown_example(example: Example) -> str:
    """A fenced block with `[-removed-]` and `{+added+}`; the fence is longer than any in the texts."""
    marks = {"same": ("", ""), "removed": ("[-", "-]"), "added": ("{+", "+}")}
    text = "".join(change.text.join(marks[change.kind]) for change in example.changes)
    fence = "`" * (max(2, *map(len, re.findall(r"`+", text)), 2) + 1)
    return f"{fence}text\n{text}\n{fence}"
