"""`dft report` on run folders that the real scorer made."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dft_eval.errors import ConfigError, StoreError
from dft_eval.report.compare import build_comparison
from dft_eval.report.paper_results import paper_results
from dft_eval.report.rendering import write_report
from dft_eval.run.local_pool import LocalPool
from dft_eval.run.score_run import ScoreRequest, score_file
from tests.eval.arithmetic import CATALOG, NUM_SAMPLES, write_samples
from tests.eval.problem_tasks import NUM_PROBLEMS, NUM_SHARED, PROBLEM_TASKS
from tests.eval.run_folders import cells, scored

DFT = Path(sys.executable).with_name("dft")

pytestmark = pytest.mark.usefixtures("arithmetic_data")


@pytest.fixture
def runs(tmp_path, arithmetic_data):
    """`first` is wrong in every third sum, `second` in none, `third` lacks ten answers."""
    right = {a: str(2 * a + 3) for a in range(NUM_SAMPLES)}
    for model, answers, count in (("first", None, NUM_SAMPLES), ("second", right, NUM_SAMPLES), ("third", right, 30)):
        samples = write_samples(tmp_path / f"{model}.jsonl", answers, count)
        request = ScoreRequest("arithmetic", samples, tmp_path / model / "arithmetic")
        score_file(request, CATALOG, LocalPool(num_workers=1))
    return tmp_path


def change_json(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_two_models(runs, tmp_path):
    report = build_comparison([runs / "first", runs / "second"])
    assert report.headline == "Against first: second is better on arithmetic."
    [scores] = scored(report).tables
    assert scores.columns == ("Benchmark", "score", "against first") and scored(report).title == "Test"
    assert [[cell.text for cell in row] for row in scores.rows] == [
        ["arithmetic", "", ""],
        ["first", "65.0", ""],
        ["second", "100.0", "+35.0 better"],
    ]
    assert scores.rows[2][2].tone == "good"
    found = report.results["differences"][0]
    assert found["estimate"]["value"] == pytest.approx(0.35) and found["holm_p_value"] == found["p_value"] < 0.01
    files = write_report(report, tmp_path)
    assert json.loads(files.json.read_text())["results"]["first_model"] == "first"
    for path in (files.markdown, files.html):
        assert "+35.0 better" in path.read_text() and "PARTIAL" not in path.read_text()
    assert "http" not in files.html.read_text().replace("http-equiv", "").replace("http://www.w3.org/", "")


def test_a_partial_run_is_marked_and_not_compared(runs):
    report = build_comparison([runs / "first", runs / "third"])
    assert report.banners == ("PARTIAL: third on arithmetic: 10 of 40 answers are missing.",)
    third = cells(report, "arithmetic", "third")
    assert third["score"].text.startswith("PARTIAL 100.0") and third["against first"].text == "-"
    assert report.results["differences"] == []
    missing = report.sections[-1].tables[0].rows[2][-1]
    assert (missing.text, missing.note) == ("10", "25.0%")


def test_answers_nobody_could_judge_are_counted_apart(runs, tmp_path):
    samples = write_samples(tmp_path / "s.jsonl", dict.fromkeys(range(4), "!unjudged"))
    score_file(ScoreRequest("arithmetic", samples, tmp_path / "fourth"), CATALOG, LocalPool(num_workers=1))
    report = build_comparison([runs / "first", tmp_path / "fourth"])
    assert report.banners == ("PARTIAL: fourth on arithmetic: 4 answers could not be judged.",)
    assert cells(report, "arithmetic", "fourth")["score"].note == "of 36 answers"
    errors = report.sections[-1].tables[0]
    counts = [dict(zip(errors.columns, (cell.text for cell in row), strict=True)) for row in errors.rows[1:]]
    assert [(row["judged"], row["unjudged"], row["missing"]) for row in counts] == [("40", "0", "0"), ("36", "4", "0")]


@pytest.mark.parametrize(("task", "gain"), [("shared", 1.0), ("all_or_half", 0.5)])
def test_models_are_compared_by_problem(tmp_path, task, gain):
    """`second` wins the 30 sums of one problem and loses 5 problems of one sum each: better by sample alone."""
    half = dict.fromkeys(range(0, NUM_SHARED, 2), "x")
    for model, answers in (
        ("first", dict.fromkeys(range(NUM_SHARED), "x")),
        ("second", (half if task == "all_or_half" else {}) | dict.fromkeys(range(NUM_SHARED, NUM_SHARED + 5), "x")),
    ):
        right = {a: str(2 * a + 3) for a in range(NUM_SAMPLES)}
        samples = write_samples(tmp_path / f"{model}.jsonl", right | answers)
        score_file(ScoreRequest(task, samples, tmp_path / model / task), PROBLEM_TASKS, LocalPool(num_workers=1))
    report = build_comparison([tmp_path / "first", tmp_path / "second"])
    estimate = report.results["differences"][0]["estimate"]
    first, second = (run["metrics"]["headline"]["value"] for run in report.results["runs"])
    assert estimate["value"] == pytest.approx((gain - 5) / NUM_PROBLEMS) == pytest.approx(second - first)
    assert estimate["num_items"] == NUM_PROBLEMS
    by_sample = [len((tmp_path / f"{m}/{task}/scores.jsonl").read_text().split('"ok"')) for m in ("first", "second")]
    assert by_sample[1] > by_sample[0]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda content: content.update(schema_version=2), "another schema"),
        (lambda content: content.update(headline="contains"), "it is about 'contains', metrics.json about 'accuracy'"),
        (lambda content: content["problems"].popitem(), "39 problems"),
        (lambda content: content["problems"].update({"sum/0+3": 0.5}), "the mean over 40 problems"),
        (lambda content: content["problems"].update({"sum/0+3": None}), "problems.json cannot be used"),
        (lambda content: content.update(problems=[1.0]), "problems.json cannot be used"),
    ],
)
def test_problems_that_are_not_the_headlines_are_refused(runs, change, complaint):
    change_json(runs / "first/arithmetic/problems.json", change)
    with pytest.raises(StoreError, match=complaint):
        build_comparison([runs / "first", runs / "second"])


def test_a_folder_without_problems_says_what_to_run(runs):
    (runs / "second/arithmetic/problems.json").unlink()
    with pytest.raises(StoreError, match=r"run the command that made the folder again: it judges nothing twice\."):
        build_comparison([runs / "first", runs / "second"])
    assert cells(build_comparison([runs / "second"]), "arithmetic", "second")["score"].text == "100.0"


@pytest.mark.parametrize(
    "name",
    ["protocol", "prompt_sha256", "data_sha256", "fingerprint", "top_p", "judge", "min_pixels", "max_pixels"],
)
def test_runs_that_differ_in_more_than_the_model_are_refused(runs, name):
    change_json(runs / "second/arithmetic/run.json", lambda content: content["settings"].update({name: "other"}))
    with pytest.raises(ConfigError, match=f"cannot be compared: {name}"):
        build_comparison([runs / "first", runs / "second"])


def test_runs_that_the_first_model_lacks_must_agree_too(runs, tmp_path):
    samples = write_samples(tmp_path / "s.jsonl")
    score_file(ScoreRequest("shared", samples, tmp_path / "zeroth/shared"), PROBLEM_TASKS, LocalPool(num_workers=1))
    change_json(runs / "third/arithmetic/run.json", lambda content: content["settings"].update(judge="rule"))
    assert build_comparison([tmp_path / "zeroth", runs / "first", runs / "second"])
    with pytest.raises(ConfigError, match="cannot be compared: judge null -> rule"):
        build_comparison([tmp_path / "zeroth", runs / "first", runs / "third"])


def test_what_is_no_run_or_a_run_twice_is_refused(runs, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds no run folder"):
        build_comparison([tmp_path / "empty"])
    shutil.copytree(runs / "first", tmp_path / "elsewhere/first")
    with pytest.raises(ConfigError, match="are both first on arithmetic"):
        build_comparison([runs / "first", tmp_path / "elsewhere/first"])


def test_the_papers_figures():
    assert [r.percent for r in paper_results("aime24") if r.model == "Qwen2.5-Math-1.5B"] == [4.16, 1.87, 6.87]
    assert [r.percent for r in paper_results("multipl_e/js") if r.model == "Qwen2.5-Coder-7B"] == [60.87, 65.22, 63.35]
    assert {r.source for r in paper_results("nq_open")} == {"section 4.5"} and not paper_results("arithmetic")


def test_the_papers_table_of_vision():
    assert {r.source for task in ("mathverse", "mathvision", "wemath") for r in paper_results(task)} == {"Table 4"}
    dft = {(r.task, r.column): r.percent for r in paper_results("mathverse") if r.arm == "dft"}
    assert dft == {
        ("mathverse", "vision only"): 32.49,
        ("mathverse", "vision intensive"): 35.91,
        ("mathverse", "vision dominant"): 33.50,
        ("mathverse", ""): 37.54,
    }
    assert [(r.arm, r.percent) for r in paper_results("wemath")] == [("base", 4.10), ("sft", 23.33), ("dft", 23.71)]


def test_the_papers_column_goes_by_the_papers_names(runs):
    for name, expected in (("Qwen/Qwen2.5-3B", 1), ("Qwen/Qwen2.5-3B-Instruct", 0), ("Qwen/Qwen2.5-32B", 0)):
        for file in (runs / "first/arithmetic").glob("*.json"):
            content = json.loads(file.read_text())
            settings = content["settings"] if file.name == "run.json" else content
            settings["task"] = "humaneval"
            if file.name == "run.json":
                settings["model"] = name
            file.write_text(json.dumps(content))
        table = scored(build_comparison([runs / "first"])).tables[0]
        figures = "paper's base 43.3, paper's sft 41.5, paper's dft 45.7"
        assert (figures in table.rows[0][0].note) == ("Qwen2.5-3B (Table 3)" in table.note) == bool(expected)


def test_the_command(runs, tmp_path):
    command = [DFT, "report", runs / "first", runs / "second", "--out", tmp_path / "report", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["results"]["first_model"] == "first"
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["report.html", "report.json", "report.md"]
    done = subprocess.run([DFT, "report", "--help"], capture_output=True, text=True, check=False)
    assert done.stdout.strip().splitlines()[-1].lstrip().startswith("Example: dft report")
    done = subprocess.run([DFT, "report", tmp_path / "report"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "holds no run folder" in done.stderr
