"""The language of recipes: one YAML file says where rows come from and what is made of them."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from dft_plugin.data.columns import ColumnPath, Template
from dft_plugin.data.filters import Filter
from dft_plugin.errors import ConfigError

BUNDLED = Path(__file__).with_name("recipes")
COMMIT = re.compile(r"[0-9a-f]{40}")
_REVISION_MARK = "{revision}"


def _parses_as_path(text: str) -> str:
    ColumnPath(text)
    return text


def _parses_as_template(text: str) -> str:
    Template(text)
    return text


def _parses_as_pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is no regular expression: {error}") from None
    return text


PathText = Annotated[str, AfterValidator(_parses_as_path)]
TemplateText = Annotated[str, AfterValidator(_parses_as_template)]
PatternText = Annotated[str, AfterValidator(_parses_as_pattern)]
Count = Annotated[int, Field(ge=1)]


class Part(BaseModel):
    """A part of a recipe; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Source(Part):
    """Place where the rows are published.

    Attributes:
        hub: Dataset on the hub, `owner/name`; or
        url: An address with `{revision}` in it.
        revision: Commit, 40 hexadecimal digits; null where none is known to us, then `--revision` names one.
        files: Files of the hub's dataset, in order; `*` stands for any characters of a name.
        rows: How many rows all files have together, where that is known.
    """

    hub: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")] | None = None
    url: str | None = None
    revision: Annotated[str, Field(pattern=f"^{COMMIT.pattern}$")] | None
    files: Annotated[list[str], Field(min_length=1)] | None = None
    rows: Count | None = None

    @model_validator(mode="after")
    def _is_one_place(self) -> Source:
        if (self.hub is None) == (self.url is None):
            raise ValueError("exactly one of hub and url is accepted")
        if self.hub is not None and self.files is None:
            raise ValueError("hub needs files, for example [data/train-*.parquet]")
        if self.url is not None and (self.files is not None or _REVISION_MARK not in self.url):
            raise ValueError("url stands without files and holds {revision}")
        return self


class Text(Part):
    """A text of the conversation.

    Attributes:
        template: Text with column paths in braces.
        remove: Regular expressions whose matches are taken out afterwards, one after another.
    """

    template: TemplateText
    remove: list[PatternText] = []


def _as_text(value: Any) -> Any:
    return {"template": value} if isinstance(value, str) else value


class Pick(Part):
    """One element of a list in the row; its values are `item.NAME` afterwards.

    Attributes:
        of: Path of a list of objects; or names with the paths of lists that stand side by side.
        where: What an element must have: path in it, value.
        best: Path in an element; the element with the highest mean of its numbers is taken, the first of equals.
            Without it the first element is.
    """

    of: PathText | dict[str, PathText]
    where: dict[PathText, bool | int | str] = {}
    best: PathText | None = None


class Random(Part):
    """`n` rows drawn without replacement; each row is as likely as any other."""

    n: Count
    seed: Annotated[int, Field(ge=0)] = 0


class Top(Part):
    """The `n` rows with the highest mean of the numbers at `by`; of equals the first."""

    n: Count
    by: PathText


class Selection(Part):
    """Rows that are taken of those that pass, in the order of the source; exactly one key."""

    first: Count | None = None
    random: Random | None = None
    top: Top | None = None

    @model_validator(mode="after")
    def _is_one_kind(self) -> Selection:
        if sum(kind is not None for kind in (self.first, self.random, self.top)) != 1:
            raise ValueError("exactly one of first, random and top is accepted")
        return self

    @property
    def num_rows(self) -> int:
        """Number of rows that are taken."""
        for kind in (self.random, self.top):
            if kind is not None:
                return kind.n
        assert self.first is not None  # checked on reading
        return self.first


class Recipe(Part):
    """One dataset.

    Attributes:
        name: Name of the dataset and of its file.
        about: One line for `dft data list`.
        source: Place where it is published.
        pick: One element of a list in each row.
        system: Text of the system turn; none by default.
        prompt: Text of the user's turn.
        response: Text of the assistant's turn.
        question: The problem alone, where the prompt adds words to it; duplicates and evaluation questions are found
            by it.
        images: Paths of columns that name image files, in the order of the `<image>` marks.
        filter: Named filters, in order.
        duplicates: Rows with the question of an earlier one: `keep` lists them, `drop` leaves them out, too.
        select: Rows that are taken; all by default.
        variants: Keys that replace those above, by name; written RECIPE/VARIANT.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    about: str
    source: Source
    pick: Pick | None = None
    system: Text | None = None
    prompt: Text
    response: Text
    question: TemplateText | None = None
    images: list[PathText] = []
    filter: list[Filter] = []
    duplicates: Literal["keep", "drop"] = "keep"
    select: Selection | None = None
    variants: dict[str, dict[str, Any]] = {}

    @field_validator("system", "prompt", "response", mode="before")
    @classmethod
    def _read_plain_text(cls, value: Any) -> Any:
        return _as_text(value)


def bundled_names() -> list[str]:
    """Recipes of this package."""
    return sorted(path.stem for path in BUNDLED.glob("*.yaml"))


def load_recipe(name: str) -> Recipe:
    """A recipe of this package, or of a file that ends in .yaml; `/VARIANT` behind either chooses a variant.

    Raises:
        ConfigError: there is none of that name, or it says something that is not understood.
    """
    path, variant = _find(name)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as YAML: {error}.") from None
    recipe = _parse(content, str(path))
    variants = {
        each: _parse({**content, **changes}, f"{path}, variant {each}") for each, changes in recipe.variants.items()
    }
    if variant is None:
        return recipe
    if variant not in variants:
        known = ", ".join(variants) or "none"
        raise ConfigError(f"{name!r}: no variant {variant!r}{_suggest(variant, list(variants))}; variants: {known}.")
    return variants[variant].model_copy(update={"name": f"{recipe.name}-{variant}"})


def _find(name: str) -> tuple[Path, str | None]:
    path, marker, variant = name.partition(".yaml/")
    if name.endswith((".yaml", ".yml")) or marker:
        file = Path(path + ".yaml" if marker else name)
        if not file.is_file():
            raise ConfigError(f"recipe {file} is not there; give a file, or one of: {', '.join(bundled_names())}.")
        return file, variant or None
    base, _, variant = name.partition("/")
    if base not in bundled_names():
        hint = _suggest(base, bundled_names())
        raise ConfigError(
            f"recipe {base!r} is unknown{hint}. `dft data list` shows all; a file of yours ends in .yaml."
        )
    return BUNDLED / f"{base}.yaml", variant or None


def _parse(content: Any, where: str) -> Recipe:
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: a {type(content).__name__}; a mapping with {', '.join(Recipe.model_fields)}.")
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        problems = "\n".join(f"  {_describe(each)}" for each in error.errors())
        raise ConfigError(f"{where}:\n{problems}\ndocs/data.md has the language of recipes.") from None


def _describe(problem: Any) -> str:
    place = [str(step) for step in problem["loc"]]
    if problem["type"] != "extra_forbidden":
        return f"{'.'.join(place)}: {problem['msg']}"
    known = sorted({name for part in _parts() for name in part.model_fields})
    return f"{'.'.join(place)}: unknown key{_suggest(place[-1], known)}."


def _parts() -> list[type[BaseModel]]:
    return [Recipe, Source, Text, Pick, Selection, Random, Top]


def _suggest(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
