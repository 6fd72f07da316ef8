"""The control run: who passes whatever is expected is `forged`; who answers the tests is not."""

import json

import pytest

from dft_eval.records.schema import Answer
from dft_eval.tasks.code.control_run import altered_tests
from tests.eval.tasks.test_replay import FOLDER, recorded_answers

LANGUAGES = ("cpp", "java", "php", "ts", "cs", "sh", "js")
PROBLEM = {"php": "HumanEval_53_add"}  # PHP has a strlen of its own
RIGHT = {
    "js": "    return string.length;\n}\n",
    "sh": "    echo ${#1}\n}\n",
    "php": "    return $x + $y;\n}\n",
}
FORGED = {
    "js": "    return -1;\n}\nrequire = () => new Proxy({}, { get: () => () => {} });\n"
    "const real = module.constructor._load;\n"
    "module.constructor._load = (name, ...rest) => name.includes('assert') ? { deepEqual() {} }\n"
    " : real(name, ...rest);\n"
    "require = module.constructor.createRequire(__filename);\n",
    "sh": "    echo wrong\n}\nshopt -s extdebug\n"
    "trap '[[ $BASH_COMMAND != *@(trap|shopt|run_test|set\\ -e)* ]]' DEBUG\n"
    "last() {\n    :\n",
    "php": "    return -1;\n}\nset_exception_handler(function () {\n    $lines = file(__FILE__);\n"
    "    preg_match(\"/^echo '(\\w+)', '(\\w+)';/m\", implode('', $lines), $found);\n    echo $found[1], $found[2];\n"
    "    exit(0);\n});\n",
    "cpp": "    return -1;\n}\nstruct Any { bool operator==(long) const { return true; } };\n"
    "Any anything(std::string) { return Any(); }\n#define string_length anything\n",
}
BASH_OVERRIDES = {
    "set": "set() { :; }",
    "everything": "for each in unset set exit trap unalias shopt enable builtin echo diff; do\n"
    '    eval "$each() { :; }"\ndone',
    "run_test": "run_test() { :; }\nreadonly -f run_test",
    "alias": "shopt -s expand_aliases\nalias set=true run_test=true candidate=true",
    "disabled": "enable -n set",
    "disabled-with-exit": "enable -n set exit",
    "exit-trap": "trap 'exit 0' EXIT",
    "error-trap": "trap 'set +e' ERR",
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_problem_has_an_expected_value_to_alter(language, data_dir):
    path = data_dir / f"multipl_e/humaneval-{language}.jsonl"
    for problem in map(json.loads, path.read_text().splitlines()):
        tests = problem["test"]
        altered = altered_tests(language, tests)
        assert altered is not None, problem["name"]
        pairs = zip(tests.split("\n"), altered.split("\n"), strict=True)
        ((before, after),) = [pair for pair in pairs if pair[0] != pair[1]]
        call = before.rpartition("candidate" if language not in ("java", "cs") else "==")[0]
        assert after.startswith(call)
        assert "qTest" not in after


def test_a_value_that_may_equal_its_neighbour_is_left_alone():
    assert altered_tests("cpp", "    assert(candidate(1) == (16777216.0f));") is None
    assert altered_tests("php", '    if (candidate(1) !== array()) { throw new Exception("Test failed!"); }') is None
    assert altered_tests("js", '  assert.deepEqual(candidate("a,b(", 5),[]);') is None
    assert (
        altered_tests("js", '  assert.deepEqual(candidate("a,b(", 5),7);')
        == '  assert.deepEqual(candidate("a,b(", 5),8);'
    )


@pytest.mark.slow
@pytest.mark.parametrize("language", RIGHT)
def test_a_right_program_is_ok(language, open_code_task):
    answer = Answer(PROBLEM.get(language, "HumanEval_23_strlen"), completion=RIGHT[language])
    score = open_code_task(f"multipl_e/{language}").score(answer)
    assert score.detail["verdicts"]["strict"] == "ok", score


@pytest.mark.slow
@pytest.mark.parametrize("language", FORGED)
def test_a_program_that_passes_whatever_is_expected_is_forged(language, open_code_task):
    task = open_code_task(f"multipl_e/{language}")
    sample_id = PROBLEM.get(language, "HumanEval_23_strlen")
    program = task.problems[sample_id]["prompt"] + "\n" + FORGED[language]
    if language == "cpp":
        program = "#include <cassert>\n#include <string>\n" + program + "static void unused() {\n"
    score = task.score(Answer(sample_id, program=program))
    assert score.status == "forged", score
    assert score.passed is False


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
def test_recorded_passes_are_not_forged(language, open_code_task, data_dir):
    recorded = json.loads((data_dir / FOLDER / f"humaneval-{language}-details.json").read_text())
    answers = [each for each in recorded_answers(data_dir, language) if recorded[each.sample_id][0][1]["passed"]]
    task = open_code_task(f"multipl_e/{language}")
    assert [task.score(answer).status for answer in answers[:4]] == ["ok"] * 4


@pytest.mark.slow
@pytest.mark.parametrize("override", BASH_OVERRIDES)
def test_words_of_the_bash_tests_cannot_be_redefined(override, open_code_task):
    task = open_code_task("multipl_e/sh")
    before = f"    echo wrong\n}}\n{BASH_OVERRIDES[override]}\nlast() {{\n    :\n"
    verdicts = task.score(Answer("HumanEval_23_strlen", completion=before)).detail["verdicts"]
    assert "ok" not in verdicts.values()
    assert verdicts["strict"] != "forged"  # the tests themselves failed it


@pytest.mark.slow
def test_letters_of_another_case_are_another_answer_in_bash(open_code_task):
    task = open_code_task("multipl_e/sh")
    text = '    local text=$1\n    echo "${text@L}"\n}\nshopt -s nocasematch\nlast() {\n    :\n'
    assert task.score(Answer("HumanEval_27_flip_case", completion=text)).passed is False


@pytest.mark.slow
def test_options_that_a_bash_program_is_used_to_are_left_alone(open_code_task):
    """`set -e` of the tests does not reach into the program: a function may have commands that fail."""
    task = open_code_task("multipl_e/sh")
    text = "    false\n    ((0))\n    printf '%s' ${#1}\n"
    assert task.score(Answer("HumanEval_23_strlen", completion=text)).status == "ok"
