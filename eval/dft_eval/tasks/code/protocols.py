"""The protocols of the code benchmarks: what is asked, where answers end, how they are read, what passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dft_eval.tasks.protocol_rules import ProtocolRules

CHAT_MAX_NEW_TOKENS = 4096
CHAT_PROMPT = (
    "Please continue to complete the function and return all completed code in a codeblock. "
    "Here is the given code to do completion:\n```{language}\n{prompt}\n```"
)
HUMANEVAL_STOPS = (
    "\nif __name__",
    "\ndef main(",
    "\nprint(",
    "\ndef ",
    "\nclass ",
    "\nimport ",
    "\nfrom ",
    "\nassert ",
    "```",
    "</s>",
    "<|endoftext|>",
)
"""EvalPlus' stop texts for base models, with the code fence that Qwen's evaluation adds."""

_TYPESCRIPT_STOPS = ("\nexport", "\nimport", "\nconsole.log")
_PYTHON_STOPS = ("\ndef", "\nclass", "\nif", "\n#", "\nprint")
_QWEN = "Qwen2.5-Coder's evaluation, revision d5ead97: "
_STOPS = (
    "before the earliest stop text: for HumanEval and HumanEval+ EvalPlus' and a code fence, and tabs become four "
    "spaces; for MultiPL-E the problem's own stop texts (TypeScript adds three, Python has five)"
)
_COMPLETED = "prompt, newline, completion; MultiPL-E adds the imports of Qwen's evaluation (C++, C#, Python)"
_STRICT = "return code 0 and a secret text printed after the last test; Python: the tests run in another process"

QWEN_BASE = ProtocolRules(
    name="qwen-base",
    interface="completion",
    prompt="{prompt}\\n, the prompt without blanks around it",
    cut=_STOPS,
    reading=_COMPLETED,
    verdict="the recorded rules: JavaScript fails on any output, C# passes unless stderr has `Fail`; else as `strict`",
    source=_QWEN + "base/benchmarks/evalplus and base/benchmarks/multiple-eval",
)
STRICT = ProtocolRules(
    name="strict",
    interface="completion",
    prompt=QWEN_BASE.prompt,
    cut=_STOPS,
    reading=_COMPLETED,
    verdict=_STRICT,
    source="asks like `qwen-base`; the verdict is this project's",
)
QWEN_CHAT = ProtocolRules(
    name="qwen-chat",
    interface="chat",
    prompt=CHAT_PROMPT.replace("\n", "\\n"),
    cut="nothing is cut",
    reading="the first code block, whatever it holds; MultiPL-E takes `main` and the last closing braces out",
    verdict=_STRICT,
    source=_QWEN + "instruct/multipl_e/chat; what its harness misreads is misread here too",
)
CHAT = ProtocolRules(
    name="chat",
    interface="chat",
    prompt=QWEN_CHAT.prompt,
    cut="drafts in `<think>` and the like are left out",
    reading=(
        "the code a careful reader would run: the last block that defines the function, or the function found in "
        "the text, or a body for the prompt; what it lacks comes from the prompt and the other blocks; trial calls "
        "beside the definitions are not run"
    ),
    verdict=_STRICT,
    source="asks like `qwen-chat`; the reading is this project's",
)
CODE_PROTOCOLS: Mapping[str, ProtocolRules] = {each.name: each for each in (QWEN_BASE, STRICT, CHAT, QWEN_CHAT)}


def multipl_e_stops(language: str, problem: Mapping[str, Any]) -> tuple[str, ...]:
    """Texts at which a completion of a MultiPL-E prompt ends."""
    if language == "python":
        return _PYTHON_STOPS
    return (*problem["stop_tokens"], *(_TYPESCRIPT_STOPS if language == "ts" else ()))


def cut_at(text: str, marks: Sequence[str]) -> str:
    """The text before the first of the marks."""
    found = [position for mark in marks if (position := text.find(mark)) >= 0]
    return text[: min(found)] if found else text
