"""From an answer to a MultiPL-E prompt to a complete program, by the rules of Qwen2.5-Coder's evaluation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

CodeProblem = Mapping[str, Any]

_CPP_NAMES = "stdlib.h algorithm math.h stdio.h vector string climits cstring iostream cassert"
_CPP_CHAT_NAMES = (
    "optional cassert stdlib.h algorithm cmath math.h numeric stdio.h vector set map queue stack list deque "
    "boost/any.hpp string climits cstring iostream sstream fstream"
)
_CS_NAMES = "Numerics Diagnostics Collections.Generic Linq Text Security.Cryptography Collections.Generic"
_JAVA_NAMES = (
    "java.util.* java.lang.reflect.* org.javatuples.* java.security.* java.math.* java.io.* java.util.stream.*"
)
_PYTHON_IMPORTS = (
    "math", "re", "sys", "copy", "datetime", "itertools", "collections", "heapq", "functools", "hashlib", "numpy",
    "numpy as np", "string",
)  # fmt: skip
_BASH_RESET = r"""POSIXLY_CORRECT=y
\unset -f unset set exit trap unalias shopt enable builtin printf candidate run_test || \exit 1
\enable unset set exit trap unalias shopt builtin printf || \exit 1
\trap - EXIT ERR DEBUG RETURN
\unalias -a
\shopt -u inherit_errexit nocasematch extdebug
\unset POSIXLY_CORRECT
"""
"""Gives the tests back the words they use; in POSIX mode no function goes before `unset`, `set`, `exit` and `trap`."""

_KEEPS_NAMESPACE = ("HumanEval_147_", "HumanEval_159_")
_MAINS = {"java": "public static void main", "cpp": "main()", "cs": "static void Main"}


def without_tests(problem: CodeProblem, program: str) -> str:
    """A whole program, with or without the tests, without them."""
    return program.rstrip().removesuffix("?>").rstrip().removesuffix(str(problem["test"]).rstrip())


def tested_source(language: str, program: str, tests: str) -> str:
    """A program followed by its tests, which Bash programs can redefine fewer words of than they could."""
    if language == "sh":
        tests = tests.replace("\ncandidate() {", f"\n{_BASH_RESET}candidate() {{", 1)
    return f"{program}\n{tests}"


def completed_source(language: str, problem: CodeProblem, completion: str) -> str:
    """Imports, prompt and completion, as Qwen's evaluation of base models puts them together.

    Args:
        language: As in the task's name.
        problem: The benchmark's record.
        completion: What follows the prompt, cut at its stop texts.
    """
    code = f"{problem['prompt']}\n{completion}"
    if language == "cpp":
        return "".join(f"{line}\n" for line in _includes(_CPP_NAMES) if line not in problem["prompt"]) + "\n" + code
    if language == "cs":
        return "".join(f"using System.{name};\n" for name in _CS_NAMES.split()) + "\n" + code
    if language == "php" and not code.startswith("<?php"):
        return f"<?php\n{code}"
    if language == "python":
        return with_python_imports(code)
    return code


def with_python_imports(code: str) -> str:
    """The imports Qwen puts before Python programs; NumPy only where it is named, since it takes a while."""
    wanted = [name for name in _PYTHON_IMPORTS if not name.startswith("numpy") or re.search(r"\bnp\b|numpy", code)]
    lines = [f"import {name}" for name in wanted] + ["from typing import *", "from collections import *"]
    return "\n".join(lines) + "\n" + code


def _includes(names: str) -> list[str]:
    return [f"#include<{name}>" for name in names.split()]


def qwen_chat_source(language: str, problem: CodeProblem, code: str) -> str:
    """A code block as Qwen's harness prepares it for the tests, whose first line closes what is left open here."""
    prompt = problem["prompt"]
    name = function_name(language, problem)
    if language == "python":
        return with_python_imports(code if name in code else prompt + code)
    if language in ("js", "ts"):
        return code if "function " in code else prompt + code
    if language == "php":
        code = code.replace("?>", "")
        code = code if f"function {name}" in code else prompt + code
        return code if "<?php" in code else f"<?php\n{code}"
    if language == "sh":
        return without_last_lines(code if f"{name}()" in code else prompt + code, "}", 1)
    return {"java": _java_from_chat, "cpp": _cpp_from_chat, "cs": _cs_from_chat}[language](problem, code, name)


def _java_from_chat(problem: CodeProblem, code: str, name: str) -> str:
    if re.search(rf"public static .*? {re.escape(name)}\(.*?\)", code, re.DOTALL) is None:
        code = f"{problem['prompt']}\n{code}"
    elif "class Problem" not in code:
        code = "class Problem {\n" + code
    code = without_block(code.replace("public class Problem", "class Problem"), _MAINS["java"])
    num_open = code.count("{") - code.count("}")
    if num_open in (0, 1):
        code = without_last_lines(code, "}", 2 - num_open)
    return "\n".join(f"import {each};" for each in _JAVA_NAMES.split()) + "\n" + code


def _cpp_from_chat(problem: CodeProblem, code: str, name: str) -> str:
    code = without_block(code, _MAINS["cpp"])
    if not str(problem["name"]).startswith(_KEEPS_NAMESPACE):
        code = code.replace("using namespace std;", "")
    missing = [line for line in _includes(_CPP_CHAT_NAMES) if line not in code]
    return without_last_lines("\n".join(missing) + "\n\n" + code + "\n", "}", 1)


def _cs_from_chat(problem: CodeProblem, code: str, name: str) -> str:
    usings = [line for line in code.split("\n") if line.startswith("using")]
    if f" {name}(" not in code:
        code = problem["prompt"] + code
    elif "class Problem" not in code:
        code = "class Problem {\n" + code
        code += "}\n" * (code.count("{") - code.count("}"))
    found = re.search(r"^.*class Problem", code, re.MULTILINE)
    code = without_block(code[found.start() :] if found else code, _MAINS["cs"])
    usings += ["using System;", *(f"using System.{each};" for each in _CS_NAMES.split())]
    return "\n".join(usings) + "\n" + without_last_lines(code, "}", 2)


def function_name(language: str, problem: CodeProblem) -> str:
    """The function the tests of a problem call."""
    if language == "python":
        return python_entry_point(problem)
    patterns = {"java": r"assert\((.*?)\(", "cs": r"Debug\.Assert\((.*?)\(", "php": r"function (.*?)\("}
    if language in patterns:
        text = problem["prompt"] if language == "php" else problem["test"]
        found = re.search(patterns[language], text)
        if found is not None:
            return found.group(1)
    return "_".join(str(problem["name"]).split("_")[2:])


def python_entry_point(problem: CodeProblem) -> str:
    """The function the tests of a Python problem ask for: `check(NAME)` is their last line."""
    return str(problem["test"]).rstrip().rpartition("check(")[2].removesuffix(")")


def without_last_lines(code: str, line: str, count: int) -> str:
    """The code before the `count`-th last line that is nothing but `line` (before the first, if there are fewer)."""
    lines = code.split("\n")
    found = [index for index, each in enumerate(lines) if each.strip() == line]
    return "\n".join(lines[: found[-count] if len(found) >= count else found[0] if found else 0])


def without_block(code: str, heading: str) -> str:
    """The code without the lines of the block that starts where `heading` stands; unchanged where it never closes."""
    lines = code.split("\n")
    start = next((index for index, line in enumerate(lines) if heading in line), None)
    if start is None:
        return code
    depth = 0
    for index in range(start, len(lines)):
        before = depth
        depth += lines[index].count("{") - lines[index].count("}")
        if depth <= 0 and (before > 0 or "{" in lines[index]):
            return "\n".join(lines[:start] + lines[index + 1 :])
    return code
