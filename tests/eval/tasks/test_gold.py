"""Solutions known to be right pass everywhere, stubs nowhere, and EvalPlus agrees."""

import gzip
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from dft_eval.records.schema import Answer
from tests.conftest import require

pytestmark = pytest.mark.slow


def score_all(task, completion_of):
    answers = [Answer(sample_id, completion=completion_of(problem)) for sample_id, problem in task.problems.items()]
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(task.score, answers))


@pytest.mark.parametrize("name", ["humaneval", "humaneval_plus"])
def test_canonical_solutions_pass_and_stubs_fail(name, open_code_task):
    task = open_code_task(name)
    scores = score_all(task, lambda problem: problem["canonical_solution"])
    assert [score for score in scores if score.passed is not True] == []
    assert all(set(score.detail["verdicts"].values()) == {"ok"} for score in scores)
    scores = score_all(task, lambda problem: "    pass\n")
    assert [score for score in scores if score.passed is not False] == []


def test_evalplus_itself_agrees_on_ten_problems(open_code_task, data_dir, tmp_path):
    """The oracle runs on a copy of ten problems, in its own process."""
    import importlib.util

    require(importlib.util.find_spec("evalplus") is not None, "evalplus (make setup)")
    task = open_code_task("humaneval_plus")
    chosen = list(task.problems)[:10]
    problems, samples = tmp_path / "problems.jsonl.gz", tmp_path / "samples.jsonl"
    with gzip.open(problems, "wt") as file:
        file.writelines(json.dumps(dict(task.problems[name])) + "\n" for name in chosen)
    solutions = {}
    for index, name in enumerate(chosen):
        problem = task.problems[name]
        body = problem["canonical_solution"] if index % 2 else "    return []\n"
        solutions[name] = f"{problem['prompt'].strip()}\n{body}"
    samples.write_text("".join(json.dumps({"task_id": k, "solution": v}) + "\n" for k, v in solutions.items()))
    subprocess.run(
        (sys.executable, "-m", "evalplus.evaluate", "--dataset", "humaneval", "--samples", str(samples), "--parallel",
         "1"),
        check=True,
        capture_output=True,
        env={"PATH": "/usr/bin", "HOME": str(tmp_path), "HUMANEVAL_OVERRIDE_PATH": str(problems)},
    )  # fmt: skip
    told = json.loads((tmp_path / "samples_eval_results.json").read_text())["eval"]
    for name, solution in solutions.items():
        verdicts = task.score(Answer(name, program=solution)).detail["verdicts"]
        (entry,) = told[name]
        assert (verdicts["base"] == "ok") == (entry["base_status"] == "pass"), name
        assert (verdicts["plus"] == "ok") == (entry["base_status"] == entry["plus_status"] == "pass"), name
