"""`dft report` on benchmarks that publish several columns."""

import json
import re

import pytest

from dft_eval.errors import ConfigError, TaskError
from dft_eval.report.compare import build_comparison
from dft_eval.report.document import render_html, render_markdown
from dft_eval.run.local_pool import LocalPool
from dft_eval.run.score_run import ScoreRequest, score_file
from tests.eval.arithmetic import Arithmetic, write_samples
from tests.eval.run_folders import scored, write_run

VL = "Qwen2.5-VL-3B"


def shares(num_right, count=100):
    return [float(index < num_right) for index in range(count)]


def mathverse(overall, only, intensive, dominant):
    values = {"overall": overall, "vision only": only, "vision intensive": intensive, "vision dominant": dominant}
    return {name: shares(value) for name, value in values.items()}


def wemath(strict):
    return {"strict": [0.5] * strict + [0.0] * (100 - strict), "loose": shares(60), "S1": shares(61), "S2": shares(52)}


@pytest.fixture
def runs(tmp_path):
    write_run(tmp_path / "base", "mathverse", mathverse(34, 29, 31, 32), model=VL)
    write_run(tmp_path / "base", "mathvision", {"accuracy": shares(21)}, model=VL)
    write_run(tmp_path / "base", "wemath", {**wemath(10), "S3": shares(48)}, model=VL)
    write_run(tmp_path / "dft", "mathverse", mathverse(74, 32, 36, 33), model="saves/dft")
    write_run(tmp_path / "dft", "wemath", wemath(40), model="saves/dft", is_complete=False)
    return [tmp_path / "base", tmp_path / "dft"]


def test_each_column_has_a_row_and_the_papers_figures_stand_in_theirs(runs):
    report = build_comparison(runs)
    section = scored(report)
    scores, differences = section.tables
    assert section.title == "Vision" and scores.columns == ("Benchmark", "base", "dft", "Paper")
    rows = {(row[0].text, row[0].is_part): [cell.text for cell in row[1:]] for row in scores.rows}
    assert rows == {
        ("mathverse", False): ["34.0", "74.0", "33.83 / 35.66 / 37.54"],
        ("vision only", True): ["29.0", "32.0", "28.81 / 30.96 / 32.49"],
        ("vision intensive", True): ["31.0", "36.0", "30.96 / 33.63 / 35.91"],
        ("vision dominant", True): ["32.0", "33.0", "31.60 / 32.74 / 33.50"],
        ("mathvision", False): ["21.0", "-", "21.25 / 21.02 / 22.30"],
        ("wemath", False): ["5.0", "PARTIAL 20.0 strict", "4.10 / 23.33 / 23.71"],
        ("loose", True): ["60.0", "PARTIAL 60.0", "-"],
        ("S1", True): ["61.0", "PARTIAL 61.0", "-"],
        ("S2", True): ["52.0", "PARTIAL 52.0", "-"],
        ("S3", True): ["48.0", "PARTIAL -", "-"],
    }
    assert [row[0].text for row in scores.rows] == [name for name, _ in rows]
    assert scores.rows[0][1].note.endswith(", overall") and re.fullmatch(r"[\d.]+ to [\d.]+", scores.rows[1][1].note)
    assert f"base / SFT / DFT of {VL} (Table 4)." in scores.note
    assert [[cell.text for cell in row] for row in differences.rows] == [
        ["mathverse", "+40.0 better"],
        ["mathvision", "-"],
        ["wemath", "-"],
    ]


def test_markdown_and_html_say_what_the_table_says(runs):
    report = build_comparison(runs)
    markdown, html = render_markdown(report), render_html(report)
    assert "\n| \N{DOWNWARDS ARROW WITH TIP RIGHTWARDS} vision only | 29.0 21.0 to 38.5 | 32.0 " in markdown
    assert "| 28.81 / 30.96 / 32.49 |\n" in markdown and "\n| wemath chat, n=100, 1 answer each | 5.0 " in markdown
    assert html.count('<tr class="part">') == 7 and 'class="part"><th scope="row"><span class="text">S1<' in html
    for cell in (cell for row in scored(report).tables[0].rows for cell in row):
        assert f'<span class="text">{cell.text}</span>' in html and cell.text in markdown
    assert html.count("PARTIAL") == markdown.count("PARTIAL") == 6


def test_a_run_of_an_older_version_reports_no_column(runs):
    file = runs[1] / "mathverse/metrics.json"
    metrics = json.loads(file.read_text())
    del metrics["reported"], metrics["metrics"]["vision only"]
    file.write_text(json.dumps(metrics))
    row = scored(build_comparison(runs)).tables[0].rows[1]
    assert (row[0].text, row[1].text, row[2].text, row[2].note) == ("vision only", "29.0", "-", "not in this run")


def test_another_headline_is_refused(runs):
    change = {"name": "vision only"}
    file = runs[1] / "mathverse/metrics.json"
    metrics = json.loads(file.read_text())
    file.write_text(json.dumps(metrics | {"headline": metrics["headline"] | change}))
    with pytest.raises(ConfigError, match="have the headlines 'overall' and 'vision only'"):
        build_comparison(runs)


def test_figures_judged_differently_are_not_put_side_by_side(tmp_path):
    write_run(tmp_path / "base", "mathvision", {"accuracy": shares(21)}, judge="rule")
    write_run(tmp_path / "dft", "mathvision", {"accuracy": shares(22)}, judge="gpt-4o-mini")
    with pytest.raises(ConfigError, match="cannot be compared: judge rule -> gpt-4o-mini"):
        build_comparison([tmp_path / "base", tmp_path / "dft"])


class TwoColumns(Arithmetic):
    reported = ("odd",)

    def summarise(self, scores):
        return {**super().summarise(scores), "odd": super().summarise(scores[1::2])["accuracy"]}


class Absent(TwoColumns):
    reported = ("odd", "even")


@pytest.mark.usefixtures("arithmetic_data")
def test_a_benchmark_names_its_reported_columns_in_its_metrics(tmp_path):
    request = ScoreRequest("arithmetic", write_samples(tmp_path / "s.jsonl"), tmp_path / "run")
    metrics = score_file(request, {"arithmetic": TwoColumns}, LocalPool(num_workers=1))
    assert metrics["reported"] == ["odd"] and list(metrics["metrics"]) == ["accuracy", "odd"]
    with pytest.raises(TaskError, match=r"`reported` names \['even'\].*below its headline: \['odd'\]"):
        score_file(request, {"arithmetic": Absent}, LocalPool(num_workers=1))
