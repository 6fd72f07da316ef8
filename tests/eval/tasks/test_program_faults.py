"""What a program does to its compiler or its sandbox is its own failure, the same in every backend."""

import pytest

from dft_eval.records.schema import Answer

pytestmark = pytest.mark.slow


def test_too_many_classes_are_the_programs_failure(backend, open_code_task):
    classes = "".join(f"static class C{index} {{}}\n" for index in range(600))
    program = "class Problem {\n" + classes + "public static long strlen(String s) { return s.length(); "
    score = open_code_task("multipl_e/java").score(Answer("HumanEval_23_strlen", program=program))
    assert (score.status, score.passed) == ("compile_error", False)


def test_a_binary_larger_than_its_folder_is_the_programs_failure(backend, open_code_task):
    program = (
        "#include <cassert>\n#include <string>\nstatic char big[100 << 20] = {1};\n"
        "long string_length(std::string s) { return s.size() + big[1]; "
    )
    score = open_code_task("multipl_e/cpp").score(Answer("HumanEval_23_strlen", program=program))
    assert (score.status, score.passed) == ("compile_error", False)
