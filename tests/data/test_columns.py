"""Column paths, texts and ratings."""

import pytest

from dft_plugin.data.columns import ColumnPath, RowProblem, Template, mean_rating

ROW = {"a": {"b-c": [{"d": "x"}, {"d": "y"}], "n": None}, "t": "text", "i": 3}


def test_paths_lead_to_values():
    assert ColumnPath("a.b-c[1].d").value(ROW) == "y"
    assert ColumnPath("a.b-c.*.d").values(ROW) == ["x", "y"]
    assert ColumnPath("a.b-c[1].d").column == "a"


@pytest.mark.parametrize("text", ["", ".a", "a..b", "[0]", "a[x]", "a b[", "{a}", "a."])
def test_other_texts_are_no_paths(text):
    with pytest.raises(ValueError, match="column path"):
        ColumnPath(text)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("z", "missing_field"),
        ("a.z", "missing_field"),
        ("a.b-c[2].d", "missing_field"),
        ("a.n", "missing_field"),
        ("a.n.x", "missing_field"),
        ("t.x", "wrong_type"),
        ("t[0]", "wrong_type"),
        ("a[0]", "wrong_type"),
    ],
)
def test_what_is_not_there_is_named(path, reason):
    with pytest.raises(RowProblem) as problem:
        ColumnPath(path).value(ROW)
    assert problem.value.reason == reason and path.split("[")[0].split(".")[0] in problem.value.detail


def test_texts():
    assert Template("Q: {t}?\n{{{a.b-c[0].d}}}").fill(ROW) == "Q: text?\n{x}"
    assert Template("{t}").fill({"t": "{braces} stay"}) == "{braces} stay"
    with pytest.raises(RowProblem, match="wrong_type: i is 3"):
        Template("{i}").fill(ROW)


@pytest.mark.parametrize("text", ["{a!r}", "{a:>3}", "{}", "{a.*}", "{a"])
def test_other_templates_are_refused(text):
    with pytest.raises(ValueError):
        Template(text)


def test_ratings():
    assert mean_rating(["5", 4, "N/A", None, " 3 "], "r") == 4.0
    assert mean_rating(["N/A", None], "r") is None
    for value in ("five", True, {}, "nan", "inf", [1]):
        with pytest.raises(RowProblem, match="wrong_type"):
            mean_rating([value], "r")
