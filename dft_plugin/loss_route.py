"""`route` in `loss_config`: which objective trains which data."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dft_plugin.core.composed_objectives import Routed
from dft_plugin.core.objectives import Objective, get_objective
from dft_plugin.errors import ConflictError, DftError, OptionError

DEFAULT_RULE = "*"


class Route(BaseModel):
    """Rules that send data sources to objectives.

    Attributes:
        by: What names a sample's source: the dataset it was loaded from (the name in the training configuration;
            of a file also its name without folder and ending), its `channel` column, or another column.
        column: That column, with `by: column` only.
        rules: Source to objective: a name, or a mapping {loss_type: NAME, option: value}. "*" takes every
            source without a rule; without it such a source is an error before training.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    by: Literal["dataset", "channel", "column"]
    column: str | None = None
    rules: dict[str, str | dict[str, Any]] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Route:
        if (self.by == "column") is not (self.column is not None):
            raise ValueError("`column: NAME` belongs to `by: column`, and only to it")
        keys: dict[int, str] = {}
        from dft_plugin.core.label_tags import route_key

        for name in self.rules:
            if (other := keys.setdefault(route_key(name), name)) != name:
                raise ValueError(f"the names {other!r} and {name!r} have the same key; rename one")
        return self

    @property
    def column_name(self) -> str | None:
        """The data column that names a sample's source; None where its dataset does."""
        return "channel" if self.by == "channel" else self.column

    @property
    def has_default(self) -> bool:
        """Return True where a rule takes every other source."""
        return DEFAULT_RULE in self.rules

    @property
    def keys(self) -> dict[int, str]:
        """Name of each source with a rule of its own, by the key its tokens carry."""
        from dft_plugin.core.label_tags import route_key

        return {route_key(name): name for name in self.rules if name != DEFAULT_RULE}

    def objective(self, loss_type: str) -> Routed:
        """The objective that the rules make.

        Raises:
            UnknownObjectiveError: a rule names none.
            OptionError: an option its objective does not take.
            ConflictError: `loss_type` is none of the rules' objectives, or not that of "*".
        """
        objectives = {name: _objective(rule, name) for name, rule in self.rules.items()}
        default = objectives.pop(DEFAULT_RULE, None)
        known = {default.name} if default is not None else {objective.name for objective in objectives.values()}
        if loss_type not in known:
            raise ConflictError(self._contradiction(loss_type, default))
        return Routed({key: objectives[name] for key, name in self.keys.items()}, default)

    def _contradiction(self, loss_type: str, default: Objective | None) -> str:
        if default is not None:
            return (
                f"loss_type={loss_type}, but the rule for '*' in loss_config.route trains every source not named with "
                f'{default.name}. Write `loss_type: {default.name}`, or the rule `"*": {loss_type}`.'
            )
        named = _rule_name(next(iter(self.rules.values())))
        return (
            f"loss_type={loss_type}, but no rule of loss_config.route trains it, and a source without a rule stops the "
            f"run. To train every source not named with {loss_type}, add the last line:\n"
            f'  rules:\n{_lines(self.rules)}    "*": {loss_type}\n'
            f"To train the named sources alone, write `loss_type: {named}`."
        )

    def match(self, candidates: Iterable[Any]) -> str:
        """Name of the rule for a source known under any of `candidates`, or its first name under "*".

        Raises:
            OptionError: no rule for it.
        """
        names = [candidate for candidate in candidates if isinstance(candidate, str) and candidate]
        for name in names:
            if name in self.rules and name != DEFAULT_RULE:
                return name
        if self.has_default and names:
            return names[0]
        where = f"loss_config.route (by {self.column_name or 'dataset'})"
        if not names:
            raise OptionError(
                f"{where} has no rule for a sample that names none: its column {self.column_name!r} is empty. "
                "Fill the column in every row."
            )
        example = _rule_name(next(iter(self.rules.values())))
        raise OptionError(
            f"{where} has no rule for {names[0]!r}; its rules: {', '.join(self.rules)}. Add a line for it, or one for "
            f"every source not named, with the objective you mean in place of {example}:\n"
            f"  rules:\n{_lines(self.rules)}    {json.dumps(names[0])}: {example}\n"
            f'    "*": {example}'
        )


def dataset_names(dataset: str) -> tuple[str, str]:
    """The words a rule may call a dataset: as written, and a file's name without folder and ending."""
    return dataset, PurePath(dataset).stem


def _rule_name(rule: str | dict[str, Any]) -> str:
    """The objective a rule names."""
    return rule if isinstance(rule, str) else str(rule.get("loss_type"))


def _lines(rules: dict[str, str | dict[str, Any]]) -> str:
    """The rules as a YAML file has them."""
    return "".join(
        f"    {json.dumps(name)}: {json.dumps(rule) if isinstance(rule, dict) else rule}\n"
        for name, rule in rules.items()
    )


def _objective(rule: str | dict[str, Any], name: str) -> Objective:
    options = {"loss_type": rule} if isinstance(rule, str) else dict(rule)
    loss_type = options.pop("loss_type", None)
    try:
        return get_objective(loss_type, **options)  # type: ignore[arg-type]  # checked there
    except DftError as error:
        raise type(error)(f"loss_config.route, rule {name!r}: {error}") from None
