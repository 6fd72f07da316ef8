"""The code blocks of a chat answer, as Markdown means them and as models really write them."""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Iterator

from dft_eval.tasks.drafts import without_drafts

_OPENING = re.compile(r"^((?:[ \t]*>)?[ \t]*(?:[-*+]|\d+[.)])?[ \t]*)(`{3,}|~{3,})(.*)$")
_INFO = re.compile(r"\s*[\w+#.\-/:]*(?:\s*\{[^{}]*\}|\s+[\w.\-]+=\S+|\s+[\w./\-]+\.\w+)*\s*")
_TAGS = re.compile(
    r"(?:<pre[^>]*>\s*)?<code[^>]*>\n?(.*?)</code>|\[(?:PYTHON|CODE|SOLUTION)\]\n?(.*?)(?:\[/(?:PYTHON|CODE|SOLUTION)\]|\Z)"
    r"|\\begin\{(?:verbatim|lstlisting|minted)\}(?:\[[^\]]*\]|\{\w+\})*\n?(.*?)\\end\{",
    re.DOTALL,
)


def plain_text(response: str) -> str:
    """An answer without byte order mark, with plain newlines and without the drafts a model thought aloud."""
    return without_drafts(response.lstrip("\ufeff\u200b").replace("\r\n", "\n").replace("\r", "\n"))


def code_blocks(text: str) -> list[str]:
    """The content of every block in order.

    A fence is three or more backticks or tildes, indented or quoted or behind a list mark or not; one that never
    closes reaches to the end, and one that closes at the end of a line of code counts.
    """
    blocks = list(_fenced(text.split("\n")))
    return blocks or [_tagged(match) for match in _TAGS.finditer(text) if any(match.groups())]


def indented_blocks(text: str) -> list[str]:
    """The blocks that Markdown marks by four blanks alone, without them."""
    runs = re.findall(r"(?:^(?: {4}|\t).*\n|^[ \t]*\n)+", text + "\n", re.MULTILINE)
    return [block for run in runs if (block := textwrap.dedent(run.expandtabs(4))).strip()]


def _tagged(match: re.Match[str]) -> str:
    """The content of a block in tags; HTML writes `<` as `&lt;`."""
    in_html, *others = match.groups()
    return html.unescape(in_html) if in_html else next(part for part in others if part)


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
