"""Column paths (`completions[0].response`) and the texts that are written with them (`Q: {question}?`)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from string import Formatter
from typing import Any

_STEP = re.compile(r"\.?([^.\[\]{}]+)|\[(\d+)\]")
EVERY = "*"
"""Step of a path that stands for all values of an object or list."""


class RowProblem(ValueError):  # noqa: N818 - not an error of the program: the row is left out and listed
    """A row that cannot be used.

    Args:
        reason: One of the words that the manifest counts.
        detail: What was found, for the list.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


class ColumnPath:
    """A path from a row to a value in it.

    Args:
        text: Names joined by dots, `[0]` for an element of a list, `*` for all values of an object or list.

    Raises:
        ValueError: the text is none.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._steps: list[str | int] = []
        end = 0
        while end < len(text) and (match := _STEP.match(text, end)) is not None:
            name, index = match.groups()
            self._steps.append(name if index is None else int(index))
            end = match.end()
        if end < len(text) or not text or text.startswith(".") or not isinstance(self._steps[0], str):
            raise ValueError(f"{text!r} is no column path; write names joined by dots, as completions[0].response")

    @property
    def column(self) -> str:
        """The column of the file that it starts from."""
        return str(self._steps[0])

    @property
    def has_every(self) -> bool:
        """Return True where it leads to several values."""
        return EVERY in self._steps

    def values(self, row: Mapping[str, Any]) -> list[Any]:
        """All values it leads to.

        Raises:
            RowProblem: one of its steps is not there.
        """
        found: list[Any] = [row]
        for step in self._steps:
            if step == EVERY:
                found = [value for each in found for value in self._all_of(each)]
            else:
                found = [self._step(each, step) for each in found]
        return found

    def value(self, row: Mapping[str, Any]) -> Any:
        """The one value it leads to.

        Raises:
            RowProblem: one of its steps is not there, or the value is null.
        """
        found: Any = row
        for step in self._steps:
            found = self._step(found, step)
        if found is None:
            raise RowProblem("missing_field", f"{self.text} is null")
        return found

    def _step(self, found: Any, step: str | int) -> Any:
        try:
            if isinstance(step, str):
                return found[step] if isinstance(found, Mapping) else self._refuse(found, step)
            return found[step] if isinstance(found, list) else self._refuse(found, step)
        except (KeyError, IndexError):
            raise RowProblem("missing_field", f"{self.text}: no {step!r}") from None

    def _all_of(self, found: Any) -> Sequence[Any]:
        if isinstance(found, Mapping):
            return [value for value in found.values() if value is not None]
        return found if isinstance(found, list) else self._refuse(found, EVERY)

    def _refuse(self, found: Any, step: str | int) -> Any:
        if found is None:
            raise RowProblem("missing_field", f"{self.text}: null where {step!r} is looked for")
        raise RowProblem("wrong_type", f"{self.text}: a {type(found).__name__} where {step!r} is looked for")


class Template:
    """A text with column paths in braces; `{{` and `}}` are braces.

    Args:
        text: The text.

    Raises:
        ValueError: a path in it is none.
    """

    def __init__(self, text: str) -> None:
        self._literals = [""]
        self.paths: list[ColumnPath] = []
        for literal, path, spec, conversion in Formatter().parse(text):
            if spec or conversion:
                raise ValueError(f"{{{path}}} with ! or :; a column path alone is accepted")
            self._literals[-1] += literal
            if path is not None:
                self.paths.append(ColumnPath(path))
                self._literals.append("")
        if any(path.has_every for path in self.paths):
            raise ValueError(f"{text!r}: * stands for several values; a text has one at each place")

    def fill(self, row: Mapping[str, Any]) -> str:
        """The text of a row.

        Raises:
            RowProblem: a value is missing or no text.
        """
        parts = [self._literals[0]]
        for path, literal in zip(self.paths, self._literals[1:], strict=True):
            value = path.value(row)
            if not isinstance(value, str):
                raise RowProblem("wrong_type", f"{path.text} is {value!r:.80}; text is accepted")
            parts += (value, literal)
        return "".join(parts)


def mean_rating(values: Sequence[Any], where: str) -> float | None:
    """The mean of numbers, which may be written as text; "N/A" and null do not count; None where nothing does.

    Raises:
        RowProblem: a value is something else.
    """
    numbers = [number for value in values if (number := _rating(value, where)) is not None]
    return sum(numbers) / len(numbers) if numbers else None


def _rating(value: Any, where: str) -> float | None:
    if value is None or (isinstance(value, str) and value.strip().upper() in ("N/A", "NA", "NONE", "")):
        return None
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not abs(number) < float("inf"):
        raise RowProblem("wrong_type", f"{where} is {value!r:.80}; a number or N/A is accepted")
    return number
