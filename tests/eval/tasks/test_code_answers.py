"""Chat answers of many forms: what is read from each is run against the benchmark's tests."""

import ast
import json
from functools import cache

import pytest

from dft_eval.records.schema import Answer
from dft_eval.tasks.catalog import TASKS
from dft_eval.tasks.code.humaneval import LIMITS
from dft_eval.tasks.code.python_answers import read_python_answer
from dft_eval.tasks.code.python_programs import find_python_verdicts
from tests.eval.tasks import multipl_e_forms
from tests.eval.tasks.code_answer_forms import FORMS, Parts
from tests.eval.tasks.test_replay import FOLDER, LANGUAGES, recorded_answers

PROBLEMS = ("HumanEval/0", "HumanEval/10", "HumanEval/38", "HumanEval/106")


def parts_of(problem):
    source = problem["prompt"] + problem["canonical_solution"]
    name = problem["entry_point"]
    node = next(node for node in ast.parse(source).body if getattr(node, "name", "") == name)
    bare = "\n".join(source.split("\n")[node.lineno - 1 : node.end_lineno]) + "\n"
    return Parts(problem["prompt"], problem["canonical_solution"], bare, f"def {name}(*a):\n    return None\n", name)


@pytest.fixture(scope="module")
def judge():
    """Verdicts by program: most forms give one and the same."""

    @cache
    def verdict(program, prompt, tests, entry_point):
        part = {"mode": "tests", "context": prompt, "tests": tests, "entry_point": entry_point, "check": True}
        return find_python_verdicts(program, entry_point, {"tests": part}, LIMITS)["tests"]

    return verdict


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_the_code_a_careful_reader_would_run(form, open_code_task, judge):
    task = open_code_task("humaneval", "chat")
    failed = {}
    for sample_id in PROBLEMS:
        problem = task.problems[sample_id]
        program = task.source(problem, Answer(sample_id, completion=FORMS[form](parts_of(problem))))
        verdict = judge(program, problem["prompt"], problem["test"], problem["entry_point"])
        if verdict.status != "ok":
            failed[sample_id] = (verdict, program)
    assert not failed


PROMPT = "from typing import List\n\n\ndef f(xs: List[int]) -> int:\n    '''Sum.'''\n"


@pytest.mark.parametrize(
    "response",
    [
        "",
        "<think>\n```python\ndef f(xs):\n    return sum(xs)\n```\nLet me check",  # never came to an answer
        "\ufeff \r\n",
    ],
)
def test_nothing_to_run_is_no_answer(response):
    assert read_python_answer(response, PROMPT, "f") == ""


@pytest.mark.parametrize(
    "response",
    [
        "I cannot help with that.",
        "```python\nx = (\n```",
        "```python\ndef g():\n    return 1\n```",
        "\0",
        "(" * 5000,
        "Solution",
    ],
)
def test_what_defines_nothing_does_not_pass(response):
    namespace = {}
    try:
        exec(compile(read_python_answer(response, PROMPT, "f"), "program", "exec"), namespace)
    except (SyntaxError, ValueError, NameError, MemoryError, RecursionError):
        return
    with pytest.raises((NameError, TypeError, AssertionError)):
        assert namespace["f"]([1, 2]) == 3


def test_a_stopped_answer_is_truncated_only_where_it_fails(open_code_task):
    task = open_code_task("humaneval", "chat")
    problem = task.problems["HumanEval/0"]
    whole = f"```python\n{parts_of(problem).whole}```"
    assert task.score(Answer("HumanEval/0", completion=whole, finish_reason="length")).status == "ok"
    cut = whole[: whole.index("return True")]
    assert task.score(Answer("HumanEval/0", completion=cut, finish_reason="length")).status == "truncated"


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_code_a_careful_reader_would_run_in_other_languages(language, open_code_task, data_dir):
    """A completion that is recorded as passed, in every form."""
    task = open_code_task(f"multipl_e/{language}", "chat")
    recorded = json.loads((data_dir / FOLDER / f"humaneval-{language}-details.json").read_text())
    passing = [each for each in recorded_answers(data_dir, language) if recorded[each.sample_id][0][1]["passed"]]
    answer = passing[3]
    problem = task.problems[answer.sample_id]
    parts = multipl_e_forms.parts_of(language, problem, answer.completion)
    judge = cache(lambda program: task.find_verdicts(problem, program)["strict"])
    failed = {}
    for form, write in multipl_e_forms.FORMS.items():
        if (text := write(parts)) is not None:
            program = task.source(problem, Answer(answer.sample_id, completion=text))
            if (verdict := judge(program)).status != "ok":
                failed[form] = (verdict, program)
    assert not failed


def test_what_nobody_can_solve_is_said_once(data_dir, caplog):
    from dft_eval.tasks.code import multipl_e

    multipl_e._say_unsolvable.cache_clear()
    for _ in range(2):
        TASKS["multipl_e/php"](data_dir, "strict").samples()
    assert caplog.text.count("no answer to HumanEval_23_strlen can pass") == 1
