"""Solutions known to be right pass everywhere, stubs nowhere, and EvalPlus agrees."""

import importlib.util
from concurrent.futures import ThreadPoolExecutor

import pytest

from dft_eval.records.schema import Answer
from tests.conftest import require
from tests.eval.tasks.evalplus_oracle import evalplus_verdicts

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


def test_evalplus_itself_agrees_on_ten_problems(open_code_task, tmp_path):
    require(importlib.util.find_spec("evalplus") is not None, "evalplus (make setup)")
    task = open_code_task("humaneval_plus")
    solutions = {}
    for index, name in enumerate(list(task.problems)[:10]):
        problem = task.problems[name]
        body = problem["canonical_solution"] if index % 2 else "    return []\n"
        solutions[name] = f"{problem['prompt'].strip()}\n{body}"
    for name, told in evalplus_verdicts(task.problems, solutions, tmp_path).items():
        verdicts = task.score(Answer(name, program=solutions[name])).detail["verdicts"]
        assert {part: verdicts[part] == "ok" for part in told} == told, name
