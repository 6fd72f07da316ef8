"""`dft report` on benchmarks that publish several columns."""

import json
import re
from html import escape

import pytest

from dft_eval.errors import ConfigError, TaskError
from dft_eval.report.compare import build_comparison
from dft_eval.report.rendering import render_html, render_markdown
from dft_eval.run.local_pool import LocalPool
from dft_eval.run.score_run import ScoreRequest, score_file
from tests.eval.arithmetic import Arithmetic, write_samples
from tests.eval.run_folders import cells, scored, write_run

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
    [scores] = section.tables
    assert section.title == "Vision" and scores.columns == ("Benchmark", "score", "against base", "paper")
    shown = {}
    for row in scores.rows:
        if not row[0].is_part:
            place = shown.setdefault(row[0].text, {"sft": row[0].note.rpartition("paper's sft ")[2]})
        else:
            place[row[0].text] = [cell.text for cell in row[1:]]
    assert shown == {
        "mathverse": {
            "base": ["34.0", "", "33.83"],
            "dft": ["74.0", "+40.0 better", "37.54"],
            "sft": "35.66",
        },
        "mathverse: vision only": {"base": ["29.0", "", "28.81"], "dft": ["32.0", "", "32.49"], "sft": "30.96"},
        "mathverse: vision intensive": {"base": ["31.0", "", "30.96"], "dft": ["36.0", "", "35.91"], "sft": "33.63"},
        "mathverse: vision dominant": {"base": ["32.0", "", "31.60"], "dft": ["33.0", "", "33.50"], "sft": "32.74"},
        "mathvision": {"base": ["21.0", "", "21.25"], "dft": ["-", "-", "22.30"], "sft": "21.02"},
        "wemath": {"base": ["5.0", "", "4.10"], "dft": ["PARTIAL 20.0 strict", "-", "23.71"], "sft": "23.33"},
        "wemath: loose": {"base": ["60.0", "", ""], "dft": ["PARTIAL 60.0", "", ""], "sft": ""},
        "wemath: S1": {"base": ["61.0", "", ""], "dft": ["PARTIAL 61.0", "", ""], "sft": ""},
        "wemath: S2": {"base": ["52.0", "", ""], "dft": ["PARTIAL 52.0", "", ""], "sft": ""},
        "wemath: S3": {"base": ["48.0", "", ""], "dft": ["PARTIAL -", "", ""], "sft": ""},
    }
    assert scores.rows[0][0].note.startswith("overall, chat, n=100")
    assert re.fullmatch(r"[\d.]+ to [\d.]+", cells(report, "mathverse", "base")["score"].note)
    assert scores.note == f"Paper: {VL} (Table 4)."


def test_markdown_and_html_say_what_the_table_says(runs):
    report = build_comparison(runs)
    markdown, html = render_markdown(report), render_html(report)
    assert "\n| mathverse: vision only paper's sft 30.96 |" in markdown and "| 28.81 |\n" in markdown
    assert "\n| \N{DOWNWARDS ARROW WITH TIP RIGHTWARDS} dft | 32.0 23.7 to 41.7 |  | 32.49 |\n" in markdown
    assert '<tr class="head"><th scope="rowgroup" colspan="4"><span class="text">wemath: S1</span></th></tr>' in html
    for cell in (cell for row in scored(report).tables[0].rows for cell in row):
        assert not cell.text or (f'<span class="text">{escape(cell.text)}</span>' in html and cell.text in markdown)
    assert html.count("PARTIAL") == markdown.count("PARTIAL") == 6


def test_a_run_of_an_older_version_reports_no_column(runs):
    file = runs[1] / "mathverse/metrics.json"
    metrics = json.loads(file.read_text())
    del metrics["reported"], metrics["metrics"]["vision only"]
    file.write_text(json.dumps(metrics))
    report = build_comparison(runs)
    assert cells(report, "mathverse: vision only", "base")["score"].text == "29.0"
    assert cells(report, "mathverse: vision only", "dft")["score"].note == "not in this run"


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
