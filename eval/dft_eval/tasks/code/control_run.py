"""A second set of tests with one expected value altered: a program that passes that too does not answer the tests.

Where a language's tests live in the program's own text, the program can switch them off from inside. A right program
fails when an expected value is not what it returns; one that passes whatever is expected does not.
"""

from __future__ import annotations

import re
import secrets

_BEFORE_EXPECTED = {
    "cpp": re.compile(r".*\) == "),
    "java": re.compile(r".*(?:\) == |\.equals\()"),
    "php": re.compile(r".*\) !== (?=.*\) \{ throw)"),
    "ts": re.compile(r"\s*assert\.deepEqual\((?=candidate\()"),
    "js": re.compile(r"\s*assert\.deepEqual\((?=candidate\()"),
    "cs": re.compile(r".*(?:\) == |Equals?\()"),
    "sh": re.compile(r'.*\) = (?=")'),
}
"""The text before the expected value in a line with an assertion; in JS and TS, before the call."""

_AFTER_EXPECTED = {"php": ") { throw"}
_ASSERTIONS = ("assert", "Assert", "!== ", "[[ ")
_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"|(?<![\w.])\d{1,6}(?!\d)|\b(?:true|false)\b')
"""Numbers only up to six digits: one more is another value in every type, floats of 32 bits included."""

_QUOTES = "\"'`"
_OPENING, _CLOSING = "([{", ")]}"


def altered_tests(language: str, tests: str) -> str | None:
    """The tests with one expected value altered, chosen at random; None where none can be.

    Args:
        language: As in the task's name.
        tests: The benchmark's own.
    """
    lines = tests.split("\n")
    altered = [(index, text) for index, line in enumerate(lines) if (text := _altered_line(language, line)) is not None]
    if not altered:
        return None
    index, text = secrets.choice(altered)
    return "\n".join([*lines[:index], text, *lines[index + 1 :]])


def _altered_line(language: str, line: str) -> str | None:
    found = _BEFORE_EXPECTED[language].match(line) if any(mark in line for mark in _ASSERTIONS) else None
    if found is None:
        return None
    start = _after_argument(line, found.end()) if language in ("js", "ts") else found.end()
    end = line.find(_AFTER_EXPECTED[language], start) if language in _AFTER_EXPECTED else len(line)
    literal = _LITERAL.search(line, start, end)
    if literal is None:
        return None  # an empty list, for example
    return line[: literal.start()] + _altered(literal.group()) + line[literal.end() :]


def _altered(literal: str) -> str:
    if literal.startswith('"'):
        return '"q' + literal[1:]
    if literal.isdigit():
        return str(int(literal) + 1)
    return {"true": "false", "false": "true"}[literal]


def _after_argument(line: str, start: int) -> int:
    """Return the end of the argument that starts here: a comma outside brackets and quotes."""
    depth, quote, position = 0, "", start
    while position < len(line):
        character = line[position]
        if quote:
            position += character == "\\"
            quote = "" if character == quote else quote
        elif character in _QUOTES:
            quote = character
        elif character in _OPENING:
            depth += 1
        elif character in _CLOSING:
            depth -= 1
        elif character == "," and depth == 0:
            return position + 1
        position += 1
    return position
