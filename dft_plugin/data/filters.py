"""Named filters of recipes: which rows a recipe does not want.

A filter is written as a mapping of one name to its argument, for example `min_rating: {of: item.score, at_least: 4}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dft_plugin.data.columns import ColumnPath, RowProblem, mean_rating

Scalar = bool | int | str


class MinRating(BaseModel):
    """Argument of `min_rating`.

    Attributes:
        of: Column path; several numbers count as their mean, "N/A" does not count.
        at_least: Smallest mean that passes.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    of: str
    at_least: float


class Filter(BaseModel):
    """One filter; exactly one name.

    Attributes:
        verified: Column path of a flag that must be true.
        min_rating: Rows rated lower are left out, and rows without any rating.
        max_chars: Longest prompt and response together.
        non_empty: Column path of a text or list that must hold something.
        equals: Column paths with the value, or a list of values, that they must have.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    verified: str | None = None
    min_rating: MinRating | None = None
    max_chars: int | None = Field(default=None, ge=1)
    non_empty: str | None = None
    equals: dict[str, Scalar | list[Scalar]] | None = None

    @model_validator(mode="before")
    @classmethod
    def _suggest_name(cls, value: Any) -> Any:
        for name in value if isinstance(value, Mapping) else ():
            if name not in cls.model_fields:
                close = get_close_matches(str(name), list(cls.model_fields), n=1, cutoff=0.5)
                hint = f" (did you mean {close[0]!r}?)" if close else ""
                raise ValueError(f"no filter {name!r}{hint}; filters: {', '.join(cls.model_fields)}")
        return value

    @model_validator(mode="after")
    def _is_one(self) -> Filter:
        if len(self._set) != 1:
            raise ValueError(f"exactly one of {', '.join(type(self).model_fields)} is accepted")
        for path in self.paths:
            ColumnPath(path)
        return self

    @property
    def name(self) -> str:
        """Its name."""
        return self._set[0]

    @property
    def paths(self) -> list[str]:
        """Column paths it reads."""
        if self.equals is not None:
            return list(self.equals)
        if self.min_rating is not None:
            return [self.min_rating.of]
        return [path for path in (self.verified, self.non_empty) if path is not None]

    @property
    def _set(self) -> list[str]:
        return [name for name in type(self).model_fields if getattr(self, name) is not None]


class FilterCheck:
    """A filter, ready for many rows.

    Args:
        spec: The filter.
    """

    def __init__(self, spec: Filter) -> None:
        self._spec = spec
        self._paths = [ColumnPath(path) for path in spec.paths]

    def check(self, row: Mapping[str, Any], num_chars: int) -> None:
        """Pass, or refuse the row.

        Args:
            row: The row.
            num_chars: Length of prompt and response together.

        Raises:
            RowProblem: the filter's name is the reason; or a field is missing or of another type.
        """
        if (found := self._find_reason(row, num_chars)) is not None:
            raise RowProblem(f"filter_{self._spec.name}", found)

    def _find_reason(self, row: Mapping[str, Any], num_chars: int) -> str | None:
        spec = self._spec
        if spec.max_chars is not None:
            return f"{num_chars} characters" if num_chars > spec.max_chars else None
        if spec.min_rating is not None:
            mean = mean_rating(self._paths[0].values(row), self._paths[0].text)
            return None if mean is not None and mean >= spec.min_rating.at_least else f"rating {mean}"
        if spec.equals is not None:
            return self._find_difference(row, spec.equals)
        value = self._paths[0].value(row)
        if spec.verified is not None:
            if not isinstance(value, bool):
                raise RowProblem("wrong_type", f"{spec.verified} is {value!r:.80}; true or false is accepted")
            return None if value else f"{spec.verified} is false"
        is_empty = not (value.strip() if isinstance(value, str) else value)
        return f"{spec.non_empty} is empty" if is_empty else None

    def _find_difference(self, row: Mapping[str, Any], wanted: Mapping[str, Scalar | list[Scalar]]) -> str | None:
        for path, accepted in zip(self._paths, wanted.values(), strict=True):
            value = path.value(row)
            if not any(value == each for each in (accepted if isinstance(accepted, list) else [accepted])):
                return f"{path.text} is {value!r:.80}"
        return None
