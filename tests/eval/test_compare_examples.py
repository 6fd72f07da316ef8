"""Answers that differ, in `dft report`."""

import pytest

from dft_eval.report.compare import build_comparison
from dft_eval.report.document import Change
from dft_eval.report.examples import MOST_CHARACTERS, cut, word_changes
from dft_eval.report.rendering import render_html, render_markdown
from dft_eval.run.local_pool import LocalPool
from dft_eval.run.score_run import ScoreRequest, score_file
from tests.eval.arithmetic import CATALOG, NUM_SAMPLES, write_samples

pytestmark = pytest.mark.usefixtures("arithmetic_data")


@pytest.fixture
def runs(tmp_path):
    """`first` is wrong in four sums, in one of which `second` is wrong too; `second` is wrong in another."""
    right = {a: str(2 * a + 3) for a in range(NUM_SAMPLES)}
    for model, wrong in (("first", {3: "<b>9 ```", 1: "none", 7: "?", 20: "x"}), ("second", {1: "no", 5: "*"})):
        samples = write_samples(tmp_path / f"{model}.jsonl", right | wrong)
        score_file(ScoreRequest("arithmetic", samples, tmp_path / model / "arithmetic"), CATALOG, LocalPool(1))
    return [tmp_path / "first", tmp_path / "second"]


def examples(report):
    return [example for section in report.sections for example in section.examples]


def test_the_first_answers_that_differ_are_shown(runs):
    report = build_comparison(runs)
    found = examples(report)
    names = [each.title.partition(", ")[2].partition(":")[0] for each in found]
    assert names == ["sum/3+6", "sum/5+8", "sum/7+10"]
    assert found[0].title.endswith("second is right, first is wrong")
    assert "".join(change.text for change in found[0].changes if change.kind != "added") == "<b>9 ```"
    assert "".join(change.text for change in found[0].changes if change.kind != "removed") == "9"
    assert found[1].title.endswith("first is right, second is wrong")


def test_a_benchmark_has_three_whatever_the_number_of_arms(runs, tmp_path):
    samples = write_samples(tmp_path / "third.jsonl", {a: str(2 * a + 3) for a in range(NUM_SAMPLES)} | {2: "-"})
    score_file(ScoreRequest("arithmetic", samples, tmp_path / "third/arithmetic"), CATALOG, LocalPool(1))
    found = examples(build_comparison([*runs, tmp_path / "third"]))
    assert [(each.title.partition(":")[0], each.after) for each in found] == [
        ("arithmetic, sum/1+4", "third"),
        ("arithmetic, sum/2+5", "third"),
        ("arithmetic, sum/3+6", "second"),
    ]


def test_texts_are_text_in_both_forms(runs):
    report = build_comparison(runs)
    html, markdown = render_html(report), render_markdown(report)
    assert "&lt;b&gt;9" in html and "<b>" not in html and html.count("<details") == 3
    assert "\n````text\n[-<b>9 ```-]{+9+}\n````\n" in markdown


def test_there_is_no_section_where_nothing_differs(runs):
    assert not examples(build_comparison([runs[0]]))
    assert "Answers that differ" not in [section.title for section in build_comparison([runs[0]]).sections]


def test_changes_join_to_both_texts():
    before, after = "the answer is  12\nnot 13", "the answer was 12\nand not 14 at all"
    changes = word_changes(before, after)
    assert "".join(each.text for each in changes if each.kind != "added") == before
    assert "".join(each.text for each in changes if each.kind != "removed") == after
    assert changes[0] == Change("same", "the answer ") and word_changes("a b", "a b") == (Change("same", "a b"),)


def test_what_is_cut_says_so():
    assert cut("x" * MOST_CHARACTERS) == "x" * MOST_CHARACTERS
    assert cut("x" * (MOST_CHARACTERS + 1234)).endswith("xx [... 1,234 more characters]")
