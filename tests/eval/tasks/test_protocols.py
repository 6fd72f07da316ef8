"""From answers to programs, by the rules of the recorded evaluation."""

from pathlib import Path

import pytest

from dft_eval.languages.base import Execution, Sentinel
from dft_eval.records.schema import Answer
from dft_eval.sandbox.program import Outcome
from dft_eval.tasks.catalog import TASKS
from dft_eval.tasks.code.code_task import first_fence
from dft_eval.tasks.code.humaneval import HumanEval
from dft_eval.tasks.code.multipl_e import qwen_base_verdict, strict_verdict
from dft_eval.tasks.code.multipl_e_programs import (
    with_python_imports,
    without_block,
    without_last_lines,
)
from dft_eval.tasks.code.protocols import cut_at, multipl_e_stops


def source_before_tests(language, problem, answer, protocol):
    return TASKS[f"multipl_e/{language}"](Path(), protocol).source(problem, answer)


SENTINEL = Sentinel("aa", "bb")
CPP = {
    "name": "HumanEval_0_f",
    "prompt": "#include<math.h>\nlong f() {\n",
    "test": "}\nint main() {}\n",
    "stop_tokens": ["\n}"],
}
HUMANEVAL = {"prompt": "def f(x):\n    '''Add.'''\n", "entry_point": "f"}


def judged(language, returncode=0, stdout=b"aabb", stderr=b"", status="ok", is_compiled=True):
    execution = Execution(is_compiled, Outcome(status, returncode, stdout, stderr, 0.1, 0.1))
    strict = strict_verdict(language, execution, SENTINEL)
    return qwen_base_verdict(language, execution, SENTINEL, strict).status, strict.status


@pytest.mark.parametrize("language", ["cpp", "java", "php", "ts", "cs", "sh", "js"])
def test_return_code_0_with_the_sentinel_passes_both_rules_and_without_it_none(language):
    assert judged(language) == ("ok", "ok")
    assert judged(language, stdout=b"") == ("wrong", "wrong")
    assert judged(language, stdout=b"aa bb") == ("wrong", "wrong")
    assert judged(language, is_compiled=False, returncode=1) == ("compile_error", "compile_error")
    assert judged(language, status="timeout") == ("timeout", "timeout")
    assert judged(language, status="infra_error") == ("infra_error", "infra_error")


def test_javascript_fails_on_output_by_the_recorded_rule_only():
    assert judged("js", stdout=b"hello\naabb") == ("wrong", "ok")
    assert judged("js", stderr=b"a warning") == ("wrong", "ok")


def test_csharp_passes_unhandled_exceptions_by_the_recorded_rule_only():
    assert judged("cs", returncode=1, stdout=b"", stderr=b"Unhandled Exception") == ("ok", "runtime_error")
    assert judged("cs", stderr=b"Fail: ") == ("wrong", "wrong")


def test_a_completion_is_cut_at_the_first_mark():
    assert cut_at("a\n}b\nfunction", ("\nfunction", "\n}")) == "a"
    assert cut_at("nothing", ("\n}",)) == "nothing"
    assert "\nexport" in multipl_e_stops("ts", {"stop_tokens": ["\nclass"]})


def test_cpp_gets_only_the_includes_its_prompt_lacks():
    source = source_before_tests("cpp", CPP, Answer("x", completion="return 1;\n}\nlong g() {"), "qwen-base")
    assert source.count("#include<math.h>") == 1
    assert source.endswith("long f() {\n\nreturn 1;")


def test_a_program_is_taken_as_it_is_with_or_without_its_tests():
    bare = "long f() { return 1;\n"
    for program in (bare, bare + CPP["test"]):
        assert source_before_tests("cpp", CPP, Answer("x", program=program), "strict").strip() == bare.strip()


def test_a_chat_answer_is_its_first_fence():
    assert first_fence("Sure:\n```cpp\nint x;\n```\n```\nno\n```") == "int x;\n"
    assert first_fence("int x;") == "int x;"


def test_a_chat_answer_in_cpp_loses_its_main_and_its_last_brace():
    answer = Answer("x", completion="```cpp\nlong f() {\nreturn 1;\n}\nint main() {\nreturn f();\n}\n```")
    source = source_before_tests("cpp", CPP, answer, "qwen-chat")
    assert "main" not in source
    assert source.rstrip().endswith("return 1;")


def test_blocks_and_last_lines_go():
    assert without_last_lines("a {\n}\n}\n", "}", 2) == "a {"
    assert without_block("a\nint main() {\n if {\n }\n}\nb", "main()") == "a\nb"
    assert without_block("a\nint main() {", "main()") == "a\nint main() {"


def test_numpy_is_imported_only_where_it_is_named():
    assert "numpy" not in with_python_imports("x = 1")
    assert "import numpy as np" in with_python_imports("x = np.zeros(1)")


@pytest.mark.parametrize("protocol", ["qwen-base", "strict"])
@pytest.mark.parametrize(
    "rest",
    [
        "\ndef g(x):\n    return (",
        "\nclass A:",
        "\nimport os",
        "\nfrom os import path",
        "\nassert f(1) == 2",
        "\nprint(f(1))",
        "\nif __name__ == '__main__':",
        "\ndef main():",
        "\n```\nIt adds one.",
        "</s>",
        "<|endoftext|>and then",
        "<|im_end|>",
        "<|eot_id|>",
        "<end_of_turn>",
    ],
)
def test_a_base_model_that_runs_on_is_cut_at_the_earliest_stop(protocol, rest):
    task = HumanEval(Path(), protocol)
    answer = Answer("x", completion=f"\treturn x + 1\n{rest}\n```\nprint(")
    assert task.source(HUMANEVAL, answer).rstrip() == HUMANEVAL["prompt"].strip() + "\n    return x + 1"


def test_stops_are_sent_with_completion_prompts_only(data_dir):
    for protocol, has_stops in (("qwen-base", True), ("strict", True), ("qwen-chat", False), ("chat", False)):
        samples = HumanEval(data_dir, protocol).samples()
        assert all(("\ndef " in sample.stop) is has_stops for sample in samples)
    assert "\n}" in TASKS["multipl_e/cpp"](data_dir, "qwen-base").samples()[0].stop


def test_carriage_returns_do_not_hide_a_stop():
    answer = Answer("x", completion="return 1;\r\n}\r\nlong g() {")
    assert source_before_tests("cpp", CPP, answer, "qwen-base").endswith("long f() {\n\nreturn 1;")
