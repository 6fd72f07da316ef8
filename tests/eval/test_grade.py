"""`dft eval grade`: any answers against any references."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dft_eval.errors import RecordsError
from dft_eval.run.grade import grade, grade_file

DFT = Path(sys.executable).with_name("dft")
RECORDS = [
    {"gold": "5", "response": "The answer is \\boxed{5}.", "id": 1},
    {"gold": ["\\frac12", "0.6"], "response": "**0.6**"},
    {"gold": "7", "response": "\\boxed{7}<|eot_id|> \\boxed{4}"},
    {"gold": "7", "response": "I do not know"},
    {"gold": "7", "response": "\\boxed{9^{9^{9^{9}}}}"},
]


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_mathematics(tmp_path):
    file, out = write(tmp_path / "a.jsonl", RECORDS), tmp_path / "new" / "graded.jsonl"
    summary = grade_file(file, "math", out, num_workers=2)
    assert (summary["total"], summary["passed"], summary["unjudged"]) == (5, 3, 0)
    graded = [json.loads(line) for line in out.read_text().splitlines()]
    assert [record["passed"] for record in graded] == [True, True, True, False, False]
    assert [record["read"] for record in graded[:4]] == ["5", "0.6", "7", ""]
    assert graded[3]["status"] == "no_answer" and graded[4]["status"] in ("timeout", "oom", "wrong")
    assert [{key: record[key] for key in before} for before, record in zip(RECORDS, graded, strict=True)] == RECORDS


@pytest.mark.parametrize(
    ("rules", "golds", "response", "status"),
    [
        ("short_answer", ["Paris", "City of Light"], " the paris.", "ok"),
        ("short_answer", ["Paris"], "<answer>Paris</answer>", "ok"),
        ("short_answer", ["Paris"], "London<|im_end|>Paris", "wrong"),
        ("short_answer", ["Paris"], "", "no_answer"),
        ("short_answer", ["Paris"], "<think>London</think>I am sure.\nThe answer is **Paris**.", "ok"),
        ("short_answer", ["Paris"], "It is \\boxed{\\text{Paris}}", "ok"),
        ("short_answer", ["O'Neill"], "\u201cO\u2019Neill\u201d", "ok"),
        ("short_answer", ["Paris"], "The answer is not Paris.", "wrong"),
        ("short_answer", ["Paris"], "The answer is Paris or London.", "wrong"),
        ("choice", ["(B)"], "The answer is B.", "ok"),
        ("choice", ["A", "B"], "\\boxed{B}", "ok"),
        ("choice", ["\\text{(C)}"], "The answer is B.", "wrong"),
        ("choice", ["C"], "A or B, I am not sure", "no_answer"),
    ],
)
def test_other_rules(rules, golds, response, status):
    found = grade(golds, response, rules)
    assert (found.status, found.passed) == (status, status == "ok")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not JSON"),
        ("[1]", "line 2 is not an object"),
        ('{"gold": "5"}', "line 2 has no field 'response'"),
        ('{"gold": 5, "response": "5"}', "line 2, field 'gold'"),
        ('{"gold": [], "response": "5"}', "line 2, field 'gold'"),
        ('{"gold": "5", "response": null}', "line 2, field 'response'"),
    ],
)
def test_bad_lines_are_named(tmp_path, line, message):
    file = tmp_path / "a.jsonl"
    file.write_text('{"gold": "5", "response": "5"}\n' + line + "\n")
    with pytest.raises(RecordsError, match=message):
        grade_file(file, "math", tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_the_command(tmp_path):
    file = write(tmp_path / "a.jsonl", [{"gold": "B", "response": "The answer is B."}])

    def run(*arguments):
        return subprocess.run([DFT, "eval", "grade", *arguments], capture_output=True, text=True, check=False)

    done = run(file, "--rules", "choice", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["passed"] == 1
    assert run(file, "--rules", "unknown").returncode == 2
    assert run(tmp_path / "absent.jsonl", "--rules", "math").returncode == 2
