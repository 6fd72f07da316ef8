"""Writing a report as JSON (canonical), Markdown and one self-contained HTML page.

Markdown and HTML are made from the same structure that the JSON states in full, so they cannot disagree with it.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import jinja2
from markupsafe import Markup

from dft_eval.records.files import write_whole
from dft_eval.report.document import Cell, Example, Report

SCHEMA_VERSION = 1
SCHEMA = Path(__file__).parent / "report.schema.json"
"""Of the `report.json` of a comparison."""

_OUTSIDE = re.compile(r"<script|\bon\w+\s*=|(?:href|src)\s*=\s*[\"'](?!#|data:)|url\((?!#)", re.IGNORECASE)
_TEMPLATES = Path(__file__).parent / "templates"


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
            del figure["svg"], figure["narrow_svg"]
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
            if _OUTSIDE.search(figure.svg + figure.narrow_svg):
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
    environment.filters["unbroken"] = _unbroken
    environment.filters["is_head"] = _is_head
    environment.filters["cell"] = _markdown_cell
    environment.filters["example"] = _markdown_example
    return environment


def _is_head(row: tuple[Cell, ...]) -> bool:
    """A row that names the ones below it, and nothing else."""
    return len(row) > 1 and not any(cell.text or cell.note for cell in row[1:])


def _unbroken(text: str) -> str:
    """The text with intervals, `1.0 to 2.0`, that no line break divides."""
    return re.sub(r"(?<=\d) to (?=[+-]?\d)", "\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}", text)


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
