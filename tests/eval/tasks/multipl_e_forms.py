"""The forms in which chat models give one and the same solution of a MultiPL-E problem."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass

from dft_eval.tasks.code.multipl_e_programs import function_name
from dft_eval.tasks.code.protocols import cut_at, multipl_e_stops

CLASSES = ("java", "cs")
IN_CLASS = {
    "java": "    public static void main(String[] args) {\n        System.out.println(1);\n    }\n",
    "cs": "    public static void Main(string[] args) {\n        Console.WriteLine(1);\n    }\n",
}


@dataclass(frozen=True)
class Parts:
    """A solved problem: `body` without the function's last brace, `function` whole, `program` with all around it."""

    language: str
    prompt: str
    body: str
    function: str
    name: str

    @property
    def is_in_class(self) -> bool:
        return self.language in CLASSES

    @property
    def program(self) -> str:
        return f"{self.prompt.rstrip()}\n{self.body.rstrip()}\n}}\n" + ("}\n" if self.is_in_class else "")

    @property
    def wrong(self) -> str:
        head = self.function[: self.function.index("\n") + 1]
        return f"{head}    wrong wrong;\n}}\n"

    def fenced(self, code: str) -> str:
        return f"```{self.language}\n{code.rstrip()}\n```"


def parts_of(language: str, problem: dict, completion: str) -> Parts:
    """The parts of a problem and a completion that passes."""
    body = cut_at(completion, multipl_e_stops(language, problem)).rstrip()
    prompt = problem["prompt"]
    if language in ("php", "js", "ts"):
        body = body.rstrip().removesuffix("}").rstrip()
    head = prompt.rstrip().split("\n")[-1]
    function = textwrap.dedent(f"{head}\n{body}\n" + " " * (len(head) - len(head.lstrip())) + "}\n")
    return Parts(language, prompt, body, function, function_name(language, problem))


def _one_line(p: Parts) -> str | None:
    if p.language == "sh":
        return None
    return p.fenced(f"{p.function.rstrip().removesuffix('}').rstrip()} }}")


def _with_main(p: Parts) -> str | None:
    if p.is_in_class:
        return p.fenced(p.program.rstrip().removesuffix("}") + IN_CLASS[p.language] + "}")
    return p.fenced(p.program + "int main() {\n    return 0;\n}\n") if p.language == "cpp" else None


def _other_class(p: Parts) -> str | None:
    return p.fenced(re.sub(r"\bclass Problem\b", "public class Solution", p.program)) if p.is_in_class else None


FORMS: dict[str, Callable[[Parts], str | None]] = {
    "program": lambda p: p.fenced(p.program),
    "function": lambda p: p.fenced(p.function),
    "without language": lambda p: f"```\n{p.program}\n```",
    "tildes": lambda p: f"~~~\n{p.program}\n~~~",
    "prose around": lambda p: f"Here's how it's done:\n\n{p.fenced(p.program)}\n\nThat's all; it isn't slow.",
    "unclosed": lambda p: f"Sure:\n```{p.language}\n{p.program}",
    "indented": lambda p: "1. Code:\n" + textwrap.indent(p.fenced(p.program), "   "),
    "CRLF": lambda p: p.fenced(p.program).replace("\n", "\r\n"),
    "BOM": lambda p: "\ufeff" + p.fenced(p.program),
    "no fence": lambda p: p.program,
    "no fence, prose around": lambda p: f"Here is the function:\n\n{p.program}\n\nIt works as asked.",
    "install command first": lambda p: f"```bash\napt install it\n```\nthen\n{p.fenced(p.program)}",
    "corrected later": lambda p: f"{p.fenced(p.wrong)}\nWait, that is wrong:\n{p.fenced(p.program)}",
    "thought": lambda p: f"<think>{p.fenced(p.wrong)}</think>{p.fenced(p.program)}",
    "body": lambda p: p.fenced(p.body),
    "closed body": lambda p: p.fenced(p.body + "\n}"),
    "body, no fence": lambda p: p.body + "\n}",
    "output after": lambda p: f"{p.fenced(p.program)}\nOutput:\n```\n3\n```",
    "end token": lambda p: f"{p.fenced(p.program)}<|eot_id|>{p.fenced(p.wrong)}",
    "closed on the last line": _one_line,
    "main": _with_main,
    "other class": _other_class,
}
