import json
import re
import shutil
import subprocess
from html import unescape

import pytest

from dft_eval.report.document import Cell, Fact, Figure, Report, Section, Table
from dft_eval.report.figures import Panel, Series, draw_curves, draw_histogram
from dft_eval.report.rendering import render_html, write_report
from tests.conftest import require

CURVES = draw_curves(
    Panel("loss", "step", (Series("SFT", [3, 2, 1], "first"), Series("DFT", [3, 2.5, 2], "second"))), smooth=2
)
BARS, _ = draw_histogram(Panel("share", "p", (Series("SFT", [0.5, 0.25, 0.0, 0.25], "first"),), is_log=True))


def make_report(**changes):
    table = Table(
        ("Arm", "Score", "Verdict"),
        (
            (Cell("SFT"), Cell("65.3%", "63.2% to 67.4%"), Cell("worse", "", "bad")),
            (Cell("<script>alert(1)</script>"), Cell("99.3%"), Cell("a|b", "", "good")),
        ),
        note="Wilson & friends",
    )
    content = {
        "title": "A <small> report",
        "headline": "SFT 65.3%, DFT 99.3%",
        "facts": (Fact("+34.0", "DFT minus SFT", "paired", "good"),),
        "banners": ("One training seed",),
        "sections": (
            Section("Skill", ("How & why",), (table,), (Figure("Loss", "Falls.", CURVES), Figure("p", "", BARS))),
        ),
        "limits": ("Large models",),
        "commands": ("dft demo --out x && echo <done>",),
        "provenance": {"torch": "2.13"},
        "results": {"exact": 0.6531234},
    }
    return Report(**{**content, **changes})


def visible_text(html):
    return unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<(style|svg).*?</\1>", " ", html, flags=re.DOTALL)))


def test_the_three_files_say_the_same(tmp_path):
    report = make_report()
    files = write_report(report, tmp_path)
    data = json.loads(files.json.read_text())
    markdown = re.sub(r"\\([|<>_*`\[\]])", r"\1", files.markdown.read_text())
    html = visible_text(files.html.read_text())
    assert data["results"] == {"exact": 0.6531234}
    said = [data["title"], data["headline"], *data["banners"], *data["limits"], *data["commands"]]
    said += [text for fact in data["facts"] for text in fact.values() if text != "good"]
    for section in data["sections"]:
        said += [section["title"], *section["paragraphs"], *(figure["title"] for figure in section["figures"])]
        for table in section["tables"]:
            said += [*table["columns"], table["note"]]
            said += [cell[key] for row in table["rows"] for cell in row for key in ("text", "note")]
    for text in said:
        assert text in markdown
        assert text in html
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json", "report.md"]


def test_markup_in_cells_is_text():
    html = render_html(make_report())
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert "A &lt;small&gt; report" in html


def test_markdown_cells_keep_their_columns(tmp_path):
    lines = write_report(make_report(), tmp_path).markdown.read_text().splitlines()
    rows = [line for line in lines if line.startswith("|") and "torch" not in line and "what" not in line]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows if row.count("---") != 2} == {4}


def test_rows_of_another_length_are_refused():
    with pytest.raises(ValueError, match="2 columns"):
        Table(("a", "b"), ((Cell("x"),),))


def test_a_number_json_cannot_say_is_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_report(make_report(results={"x": float("nan")}), tmp_path)


@pytest.mark.parametrize(
    "svg",
    [
        "<svg><script>1</script></svg>",
        '<svg><image href="http://example.org/a.png"/></svg>',
        '<svg onload="x()"></svg>',
        '<svg style="fill: url(http://example.org)"></svg>',
    ],
)
def test_drawings_that_load_or_run_something_are_refused(svg):
    for drawings in ((svg,), (CURVES, svg)):
        section = Section("x", figures=(Figure("bad", "", *drawings),))
        with pytest.raises(ValueError, match="outside the page"):
            render_html(make_report(sections=(section,)))


def test_an_interval_is_one_word_to_a_line_break():
    cell = Cell("50.4", "+1.0 to -2.5, seeds 45.0 to 55.8; subject to change")
    html = render_html(make_report(sections=(Section("x", tables=(Table(("score",), ((cell,),)),)),)))
    assert "+1.0\xa0to\xa0-2.5, seeds 45.0\xa0to\xa055.8; subject to change" in html


def test_figures_follow_the_page_and_share_no_id():
    for svg in (CURVES, BARS):
        assert "currentColor" in svg
        assert "#010203" not in svg
        assert "<metadata" not in svg
    assert not set(re.findall(r'\bid="([^"]+)"', CURVES)) & set(re.findall(r'\bid="([^"]+)"', BARS))
    for svg in (CURVES, BARS):
        ids = set(re.findall(r'\bid="([^"]+)"', svg))
        assert set(re.findall(r'(?:url\(|href=")#([^")]+)', svg)) <= ids


def test_the_page_loads_nothing():
    html = render_html(make_report())
    assert not re.findall(r"""(?:src|srcset|data|action|poster)\s*=\s*["']?(?!data:)\s*(?:https?:)?//""", html)
    assert not re.findall(r"<(?:link|script|iframe|img|object|embed|base)\b", html)
    assert not re.findall(r"url\((?!#)|@import", html)
    assert "default-src 'none'" in html


@pytest.mark.slow
def test_a_browser_shows_the_page(tmp_path):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    require(chromium is not None, "chromium")
    page = write_report(make_report(), tmp_path / ".").html
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--enable-logging=stderr",
    ]
    done = subprocess.run(
        [chromium, *options, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0
    assert "SFT 65.3%, DFT 99.3%" in done.stdout
    assert done.stdout.count("<svg") == 2
    assert "Content Security Policy" not in done.stderr
