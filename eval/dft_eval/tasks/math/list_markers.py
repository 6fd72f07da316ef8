"""Numbers that only count a response's lines, steps and sections: `3. Add them`, `(3) Add`, `Step 3:`, `### 3.`."""

from __future__ import annotations

import re

_LABELS = "step|part|case|question|problem|exercise|example|section"
_NUMBER = r"\d{1,3}(?:\.\d{1,2})*"
_EMPHASIS = r"(?:\*{1,3}|__?)?"
_AT_LINE_START = re.compile(
    rf"^(?P<lead>[ \t]*(?:>[ \t]*)*(?:[-*+\u2022][ \t]+)?(?:#{{1,6}}[ \t]+)?{_EMPHASIS})"
    rf"(?P<marker>(?:{_LABELS})[ \t]*#?\(?{_NUMBER}\)?(?=[ \t]*(?:[.:)*_\u2013\u2014-]|$))"
    rf"|(?<=# )(?<!#### ){_NUMBER}[.):](?=[*_ \t]*$)"  # a heading; `#### 3.` is an answer
    rf"|\(?{_NUMBER}(?:[.)]{_EMPHASIS}(?=[ \t])|\)(?=[A-Za-z\\$])|\u3001)(?=[^\n]*\w))",
    re.MULTILINE | re.IGNORECASE,
)
_IN_LINE = re.compile(r"(?:^|(?<=[.!?:;])[ \t]+)(?P<number>\d{1,2})[.)](?=[ \t]+[A-Z])", re.MULTILINE)
_ANSWER_FOLLOWS = re.compile(r"(?:\bis|=|\bequals|\b(?:answer|result|value|solution)\s*:)[\s*_:]*$", re.IGNORECASE)
_NUM_CHARACTERS_BEFORE = 40


def without_list_markers(text: str) -> str:
    """Blank the numbers that count lines, steps or sections; the text keeps its length.

    A number alone on its line is no marker, nor one after `the answer is`. Within a line, numbers that follow the end
    of a sentence count where they go on from 1.
    """
    expected = 1
    found = []
    for match in _IN_LINE.finditer(text):
        if int(match["number"]) == expected:
            found.append(match)
            expected += 1
    for match in found if len(found) > 1 else ():
        text = text[: match.start()] + " " * len(match[0]) + text[match.end() :]
    return _AT_LINE_START.sub(_blank, text)


def _blank(match: re.Match[str]) -> str:
    before = match.string[max(0, match.start() - _NUM_CHARACTERS_BEFORE) : match.start()]
    return match[0] if _ANSWER_FOLLOWS.search(before) else match["lead"] + " " * len(match["marker"])
