"""The program that a careful reader of a chat answer to a MultiPL-E prompt would run.

The tests of C++, Java, C# and Bash begin with the brace that closes the function under test. Here the function is
whole, and something empty is opened behind it for that brace to close.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dft_eval.tasks.code.braces import block_end, depth, masked, without_block_at
from dft_eval.tasks.code.code_blocks import code_blocks, plain_text
from dft_eval.tasks.code.multipl_e_programs import function_name, python_entry_point, with_python_imports
from dft_eval.tasks.code.python_answers import MAX_CHARACTERS, read_python_answer

CodeProblem = Mapping[str, Any]

_HEADS = {
    "js": r"function\s*\*?\s*{name}\s*[(<]|\b(?:const|let|var)\s+{name}\b[^;]*?=",
    "php": r"function\s+&?\s*{name}\s*\(",
    "sh": r"(?:^|\n|;)[ \t]*(?:function\s+{name}\b|{name}\s*\(\s*\))",
    "cpp": r"[\w>&*\]]\s+[&*]*{name}\s*\([^;{{}}]*\)\s*(?:const\s*|noexcept\s*)*\{{",
    "java": r"[\w>\]]\s+{name}\s*\([^;{{}}]*\)\s*(?:throws\s+[\w.,\s]+)?\{{",
    "cs": r"[\w>\]?]\s+{name}\s*\([^;{{}}]*\)\s*(?:\{{|=>)",
}
_HEADS["ts"] = _HEADS["js"]
_HELPER = re.compile(
    r"(?:function\s+|[\w>&*\]]\s+[&*]*)(\w+)\s*\([^;{}]*\)[^;{}()]*\{|(?:struct|class|enum)\s+(\w+)\s*\{"
)
_KEYWORDS = frozenset({"if", "for", "while", "switch", "catch", "return", "else", "function", "main", "Main", "elseif"})
_STD_FUNCTIONS = frozenset({"unique", "search", "max_element", "count", "sort", "find", "remove", "reverse", "equal"})
_STD_TYPES = (
    "vector string map set unordered_map unordered_set pair tuple stack queue deque list optional cout endl to_string"
)
_OPENERS = {"cpp": "\nnamespace {", "sh": "\ndft_end() {\n:", "java": "\nstatic {", "cs": "\nstatic void DftEnd() {"}
_CODE_LINE = re.compile(
    r"[;{}=]|^\s*(?:#include|using |import |//|/\*|\*|class |function |local |echo |if |for |while |<\?php)"
)
_PROSE_LINE = re.compile(r"^\s*(?:[A-Z][\w'-]*|[a-z]+)(?: [\w'`(),-]+){2,}[.:!]?\s*$")


def read_chat_answer(language: str, problem: CodeProblem, response: str) -> str:
    """Everything before the tests.

    Of several blocks the last that defines the function counts; an answer that defines none is the prompt's body.

    Args:
        language: As in the task's name.
        problem: The benchmark's record.
        response: All a model wrote, up to its end token.

    Returns:
        The source; empty where there is nothing to run.
    """
    if language == "python":
        code = read_python_answer(response, problem["prompt"], python_entry_point(problem))
        return code if not code or code.startswith("from __future__") else with_python_imports(code)
    text = plain_text(response) if len(response) <= MAX_CHARACTERS else response
    if not text.strip():
        return ""
    prompt = str(problem["prompt"])
    name = function_name(language, problem)
    head = re.compile(_HEADS[language].format(name=re.escape(name)))
    blocks = code_blocks(text)
    defining = [block for block in blocks if head.search(masked(language, block))]
    if defining:
        code = "\n".join(
            [*_helpers(language, defining[-1], [each for each in blocks if each not in defining]), defining[-1]]
        )
    elif (loose := _loose_code(language, text, head)) is not None:
        code = loose
    else:
        code = _completed(language, prompt, blocks[-1] if blocks else _without_prose(text))
    return _FINISHERS[language](code, prompt, name) + _OPENERS.get(language, "")


def _helpers(language: str, chosen: str, others: Sequence[str]) -> list[str]:
    """Other blocks that define what the chosen one names and lacks."""
    own = _defined(language, chosen)
    mask = masked(language, chosen)
    return [
        block for block in others if any(re.search(rf"\b{name}\b", mask) for name in _defined(language, block) - own)
    ]


def _defined(language: str, block: str) -> set[str]:
    found = {first or second for first, second in _HELPER.findall(masked(language, block))}
    if language == "sh":
        found |= set(re.findall(r"(?:^|\n)\s*(?:function\s+)?(\w+)\s*\(\s*\)", masked(language, block)))
    return found - _KEYWORDS


def _loose_code(language: str, text: str, head: re.Pattern[str]) -> str | None:
    """The function among prose: from the code directly above it to the last brace."""
    mask = masked(language, text)
    found = head.search(mask)
    if found is None or mask.rfind("}") < found.end() - 1:
        return None
    lines = text[: found.end()].split("\n")
    first = len(lines) - 1
    while (
        first > 0
        and (not lines[first - 1].strip() or _CODE_LINE.search(lines[first - 1]))
        and not _PROSE_LINE.match(lines[first - 1])
    ):
        first -= 1
    start = sum(len(line) + 1 for line in lines[:first])
    return text[start : mask.rfind("}") + 1]


def _without_prose(text: str) -> str:
    lines = text.split("\n")
    kept = [index for index, line in enumerate(lines) if line.strip() and not _PROSE_LINE.match(line)]
    return "\n".join(lines[kept[0] : kept[-1] + 1]) if kept else text


def _completed(language: str, prompt: str, body: str) -> str:
    """The prompt with a body, its function closed and nothing else."""
    code = f"{prompt.rstrip()}\n{body.rstrip()}\n"
    wanted = depth(language, prompt) - 1
    if (missing := depth(language, code) - wanted) == 1:
        return code + "}\n"
    for _ in range(-missing):  # the class was closed too
        code = code[: masked(language, code).rfind("}")]
    return code


def _finish_cpp(code: str, prompt: str, name: str) -> str:
    code = without_block_at("cpp", code, r"\bmain\s*\([^;{}]*\)\s*\{")
    if name in _STD_FUNCTIONS:
        names = " ".join(f"using std::{each};" for each in _STD_TYPES.split())
        code = re.sub(r"\busing\s+namespace\s+std\s*;", names, code)
    includes = [line for line in prompt.split("\n") if line.startswith("#include")]
    types = re.findall(r"(?:struct|union|class)\s+\w+\s*\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}\s*;", prompt)
    absent = [each for each in types if each.split("{")[0].split()[1] + "{" not in re.sub(r"\s+", "", code)]
    return "\n".join([*includes, *absent, code])


def _finish_class(language: str, code: str, prompt: str, name: str) -> str:
    """Imports in front, then other classes, then `class Problem`, left open, without its `main`."""
    keyword = {"java": "import", "cs": "using"}[language]
    line = re.compile(rf"^[ \t]*{keyword}\s+(?!var\b)[\w.*= ]+;[ \t]*$", re.MULTILINE)
    imports = list(dict.fromkeys(each.strip() for each in (*line.findall(prompt), *line.findall(code))))
    code = re.sub(r"^[ \t]*(?:package|namespace)\s+[\w.]+\s*;", "", line.sub("", code), flags=re.MULTILINE)
    code = _without_namespace(language, code)
    mask = masked(language, code)
    position = re.search(rf"\b{re.escape(name)}\s*\(", mask)
    enclosing = None
    for found in re.finditer(r"\bclass\s+(\w+)[^{};]*\{", mask):
        end = block_end(mask, found.start())
        if position is not None and found.start() < position.start() and not 0 < end < position.start():
            enclosing = enclosing or (found, end)
    if enclosing is None:
        code, rest = "class Problem {\n" + code, ""
    else:
        found, end = enclosing
        start = mask.rfind("\n", 0, found.start()) + 1
        body = code[found.end() : end - 1] if end > 0 else code[found.end() :]
        end = len(code) if end < 0 else end
        rest = code[:start] + code[end:]
        code = "class Problem {" + (re.sub(rf"\b{found[1]}\b", "Problem", body) if found[1] != name else body)
        rest = re.sub(r"\bpublic\s+((?:static\s+|final\s+|sealed\s+)*(?:class|interface|enum|record)\b)", r"\1", rest)
    code = without_block_at(language, code, r"\bstatic\s+(?:async\s+)?\w+\s+[mM]ain\s*\([^;{}]*\)[^;{}]*\{")
    return "\n".join([*imports, rest, code.rstrip()])


def _without_namespace(language: str, code: str) -> str:
    mask = masked(language, code)
    found = re.search(r"\bnamespace\s+[\w.]+\s*\{", mask)
    if found is None or (end := block_end(mask, found.start())) < 0:
        return code
    return code[: found.start()] + code[found.end() : end - 1] + code[end:]


def _finish_php(code: str, prompt: str, name: str) -> str:
    code = code.replace("?>", "").strip()
    return code if code.startswith("<?php") else "<?php\n" + code.replace("<?php", "")


def _finish_script(code: str, prompt: str, name: str) -> str:
    """JavaScript and TypeScript: nothing exported, and no `assert` of their own beside the tests'."""
    code = re.sub(
        r"^[ \t]*export\s+(?:default\s+)?(?=(?:async\s+)?(?:function|const|let|class|type|interface))",
        "",
        code,
        flags=re.MULTILINE,
    )
    code = re.sub(
        r"^[ \t]*(?:module\.)?exports\b.*$|^[ \t]*export\s*(?:default\s+\w+|\{[^}]*\})\s*;?[ \t]*$",
        "",
        code,
        flags=re.MULTILINE,
    )
    code = re.sub(r"^(?:const|let|var|import)\s+(?:\*\s*as\s+)?assert\b.*$", "", code, flags=re.MULTILINE)
    return re.sub(r"^assert\b.*;[ \t]*$", "", code, flags=re.MULTILINE)


def _finish_bash(code: str, prompt: str, name: str) -> str:
    return code


_FINISHERS: Mapping[str, Callable[[str, str, str], str]] = {
    "cpp": _finish_cpp,
    "java": lambda code, prompt, name: _finish_class("java", code, prompt, name),
    "cs": lambda code, prompt, name: _finish_class("cs", code, prompt, name),
    "php": _finish_php,
    "js": _finish_script,
    "ts": _finish_script,
    "sh": _finish_bash,
}
