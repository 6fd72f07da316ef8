"""The code blocks of a chat answer, as Markdown means them and as models really write them."""

from __future__ import annotations

import re
from collections.abc import Iterator

_THOUGHT_NAMES = "think|thinking|thought|thoughts|reasoning|reflection|scratchpad|analysis|seed:think"
_THOUGHT = re.compile(rf"<({_THOUGHT_NAMES})>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_END_OF_THOUGHT = re.compile(rf"</(?:{_THOUGHT_NAMES})>", re.IGNORECASE)
_OPENING = re.compile(r"^((?:[ \t]*>)?[ \t]*(?:[-*+]|\d+[.)])?[ \t]*)(`{3,}|~{3,})(.*)$")
_INFO = re.compile(r"\s*[\w+#.\-/:]*(?:\s*\{[^{}]*\}|\s+[\w.\-]+=\S+|\s+[\w./\-]+\.\w+)*\s*")
_TAGS = re.compile(
    r"(?:<pre[^>]*>\s*)?<code[^>]*>\n?(.*?)</code>|\[(?:PYTHON|CODE|SOLUTION)\]\n?(.*?)(?:\[/(?:PYTHON|CODE|SOLUTION)\]|\Z)"
    r"|\\begin\{(?:verbatim|lstlisting|minted)\}(?:\[[^\]]*\]|\{\w+\})*\n?(.*?)\\end\{",
    re.DOTALL,
)


def plain_text(response: str) -> str:
    """An answer without byte order mark, with plain newlines and without the drafts a model thought aloud."""
    text = response.lstrip("\ufeff\u200b").replace("\r\n", "\n").replace("\r", "\n")
    text = _THOUGHT.sub("", text)
    ends = list(_END_OF_THOUGHT.finditer(text))  # a template opened it in the prompt
    return text[ends[-1].end() :] if ends else text


def code_blocks(text: str) -> list[str]:
    """The content of every block in order.

    A fence is three or more backticks or tildes, indented or quoted or behind a list mark or not; one that never
    closes reaches to the end, and one that closes at the end of a line of code counts.
    """
    blocks = list(_fenced(text.split("\n")))
    return blocks or [next(part for part in found if part) for found in _TAGS.findall(text) if any(found)]


def _fenced(lines: list[str]) -> Iterator[str]:
    position = 0
    while position < len(lines):
        opening = _OPENING.match(lines[position])
        position += 1
        if opening is None:
            continue
        lead, fence, rest = opening.groups()
        if fence[0] == "`" and rest.rstrip().endswith(fence):  # all of it on one line
            yield re.sub(r"^\s*(?:python3?|py|cpp|java|php|js|ts|sh|bash|cs)\s+", "", rest.rstrip()[: -len(fence)])
            continue
        content = [] if _INFO.fullmatch(rest) else [rest.strip()]
        while position < len(lines):
            line = _unquoted(lines[position], lead)
            if _reopens(line, fence):
                break  # the block before was never closed
            position += 1
            if _closes(line, fence):
                break
            if (last := _glued(line, fence)) is not None:
                content.append(last)
                break
            content.append(line)
        yield "\n".join(content) + "\n"


def _unquoted(line: str, lead: str) -> str:
    """A line without what its block is set in by: a quote mark, or the indentation of the fence."""
    if ">" in lead:
        return re.sub(r"^[ \t]*> ?", "", line)
    width = len(lead.expandtabs(4))
    indentation = len(line) - len(line.lstrip(" \t"))
    return line[min(width, indentation) :]


def _closes(line: str, fence: str) -> bool:
    mark = line.strip()
    is_fence = len(mark) >= len(fence) and set(mark) == {fence[0]}
    return is_fence and len(line) - len(line.lstrip()) < 4


def _reopens(line: str, fence: str) -> bool:
    opening = _OPENING.match(line)
    return (
        opening is not None
        and len(opening[1]) < 4
        and opening[2] == fence
        and opening[3].strip() != ""
        and _INFO.fullmatch(opening[3]) is not None
    )


def _glued(line: str, fence: str) -> str | None:
    """The code before a fence that closes at the end of its line; None where there is none."""
    code = line.rstrip()
    if code.endswith(fence) and code.count(fence) == 1 and code != fence:
        rest = code.removesuffix(fence)
        return rest if rest.strip() and not rest.strip().startswith(("#", "//", "*")) else None
    return None
