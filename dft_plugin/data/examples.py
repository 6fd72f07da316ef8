"""One row of a source as one training example, by a recipe."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dft_plugin.data.columns import ColumnPath, RowProblem, Template, mean_rating
from dft_plugin.data.filters import FilterCheck
from dft_plugin.data.recipe import Pick, Recipe, Text
from dft_plugin.encoding.row_formats import IMAGE_MARK

_OTHER_MARKS = ("<video>", "<audio>")


class Example(NamedTuple):
    """A training example.

    Attributes:
        system: Text of the system turn, or None.
        prompt: Of the user's turn.
        response: Of the assistant's turn.
        question: The problem alone.
        images: Image files as the source names them.
        rating: What `top` orders by; None where nothing does.
    """

    system: str | None
    prompt: str
    response: str
    question: str
    images: tuple[str, ...]
    rating: float | None

    def record(self) -> dict[str, Any]:
        """The line of the data file that both frameworks read."""
        turns = [] if self.system is None else [{"role": "system", "content": self.system}]
        turns += [{"role": "user", "content": self.prompt}, {"role": "assistant", "content": self.response}]
        return {"messages": turns, "images": list(self.images)} if self.images else {"messages": turns}


class ExampleMaker:
    """A recipe, ready for many rows.

    Args:
        recipe: The recipe.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._picker = None if recipe.pick is None else _Picker(recipe.pick)
        self._system = None if recipe.system is None else _TextMaker(recipe.system)
        self._prompt, self._response = _TextMaker(recipe.prompt), _TextMaker(recipe.response)
        self._question = None if recipe.question is None else Template(recipe.question)
        self._images = [ColumnPath(path) for path in recipe.images]
        self._filters = [FilterCheck(spec) for spec in recipe.filter]
        self._top = ColumnPath(recipe.select.top.by) if recipe.select and recipe.select.top else None
        paths = [path for maker in (self._system, self._prompt, self._response) if maker for path in maker.paths]
        paths += [*self._images, *(self._question.paths if self._question else ()), *([self._top] if self._top else ())]
        paths += [ColumnPath(path) for spec in recipe.filter for path in spec.paths]
        picked = self._picker.columns if self._picker else []
        self.columns = sorted({*picked, *(path.column for path in paths)} - ({"item"} if self._picker else set()))
        """Columns of the file that are read."""

    def make(self, row: Mapping[str, Any]) -> Example:
        """The example of a row.

        Raises:
            RowProblem: the row cannot be used, or the recipe does not want it.
        """
        if self._picker is not None:
            row = {**row, "item": self._picker.pick(row)}
        system = self._system.fill(row) if self._system else None
        prompt, response = self._prompt.fill(row), self._response.fill(row)
        for name, text in (("prompt", prompt), ("response", response)):
            if not text or text.isspace():
                raise RowProblem(f"empty_{name}", repr(text[:40]))
        for check in self._filters:
            check.check(row, len(prompt) + len(response))
        images = tuple(self._image(path, row) for path in self._images)
        _check_marks(len(images), (system or "", prompt, response))
        question = self._question.fill(row) if self._question else prompt
        return Example(system, prompt, response, question, images, self._rating(row))

    def _image(self, path: ColumnPath, row: Mapping[str, Any]) -> str:
        value = path.value(row)
        if not isinstance(value, str) or not value:
            raise RowProblem("wrong_type", f"{path.text} is {value!r:.80}; the path of an image is accepted")
        return value

    def _rating(self, row: Mapping[str, Any]) -> float | None:
        if self._top is None:
            return None
        rating = mean_rating(self._top.values(row), self._top.text)
        if rating is None:
            raise RowProblem("no_rating", f"{self._top.text} holds no number")
        return rating


class _TextMaker:
    def __init__(self, text: Text) -> None:
        self._template = Template(text.template)
        self._remove = [re.compile(pattern) for pattern in text.remove]
        self.paths = self._template.paths

    def fill(self, row: Mapping[str, Any]) -> str:
        text = self._template.fill(row)
        for pattern in self._remove:
            text = pattern.sub("", text)
        return text


class _Picker:
    def __init__(self, pick: Pick) -> None:
        lists = {"": pick.of} if isinstance(pick.of, str) else pick.of
        self._lists = {name: ColumnPath(path) for name, path in lists.items()}
        self._where = [(ColumnPath(path), value) for path, value in pick.where.items()]
        self._best = None if pick.best is None else ColumnPath(pick.best)
        self.columns = [path.column for path in self._lists.values()]

    def pick(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        fitting = [item for item in self._items(row) if all(path.value(item) == value for path, value in self._where)]
        if not fitting:
            raise RowProblem("no_item", "no element has " + ", ".join(f"{p.text}: {v}" for p, v in self._where))
        if self._best is None:
            return fitting[0]
        rated = [(mean_rating(self._best.values(item), self._best.text), item) for item in fitting]
        known = [(rating, item) for rating, item in rated if rating is not None]
        if not known:
            raise RowProblem("no_rating", f"{self._best.text} holds no number in any of {len(fitting)} elements")
        return max(known, key=lambda pair: pair[0])[1]  # the first of equals

    def _items(self, row: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        lists = {name: path.value(row) for name, path in self._lists.items()}
        for name, path in self._lists.items():
            if not isinstance(lists[name], list):
                raise RowProblem("wrong_type", f"{path.text} is {lists[name]!r:.80}; a list is accepted")
        if "" in lists:
            return _objects(lists[""])
        if len({len(values) for values in lists.values()}) > 1:
            lengths = ", ".join(f"{path.text} {len(lists[name])}" for name, path in self._lists.items())
            raise RowProblem("wrong_type", f"lists side by side of other lengths: {lengths}")
        return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]


def _objects(values: Sequence[Any]) -> Sequence[Mapping[str, Any]]:
    if not all(isinstance(value, Mapping) for value in values):
        raise RowProblem("wrong_type", f"elements {values!r:.80}; objects are accepted")
    return values


def _check_marks(num_images: int, texts: Sequence[str]) -> None:
    num_marks = sum(text.count(IMAGE_MARK) for text in texts)
    if num_marks != num_images:
        raise RowProblem("image_marks", f"{num_images} images and {num_marks} {IMAGE_MARK} marks")
    for mark in _OTHER_MARKS:
        if any(mark in text for text in texts):
            raise RowProblem("image_marks", f"{mark} in the text, which frameworks take for a file")
