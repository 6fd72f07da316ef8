"""The language of recipes: what is understood, and what is said of the rest."""

import pytest
import yaml

from dft_plugin.data.examples import ExampleMaker
from dft_plugin.data.recipe import bundled_names, load_recipe
from dft_plugin.data.selection import with_selection
from dft_plugin.errors import ConfigError, ConflictError

MINE = {
    "name": "mine",
    "about": "an example",
    "source": {"hub": "me/mine", "revision": "0" * 40, "files": ["*.parquet"]},
    "prompt": "{question}",
    "response": {"template": "{answer}", "remove": ["^x"]},
    "filter": [{"verified": "ok"}, {"min_rating": {"of": "score", "at_least": 4.0}}, {"max_chars": 100}],
    "select": {"random": {"n": 3, "seed": 1}},
}


def write(folder, **changes):
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in {**MINE, **changes}.items() if value is not ...}))
    return str(path)


@pytest.mark.parametrize("name", bundled_names())
def test_bundled_recipes_and_their_variants(name):
    recipe = load_recipe(name)
    assert recipe.name == name and ExampleMaker(recipe).columns
    for variant in recipe.variants:
        assert load_recipe(f"{name}/{variant}").name == f"{name}-{variant}"


def test_a_recipe_of_ones_own(tmp_path):
    recipe = load_recipe(write(tmp_path, variants={"few": {"select": {"first": 2}}}))
    assert ExampleMaker(recipe).columns == ["answer", "ok", "question", "score"]
    assert load_recipe(str(tmp_path / "mine.yaml/few")).select.first == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"promt": "x"}, "promt: unknown key (did you mean 'prompt'?)"),
        ({"source": {**MINE["source"], "revison": "x"}}, "source.revison: unknown key (did you mean 'revision'?)"),
        ({"filter": [{"min_ratings": 4}]}, "no filter 'min_ratings' (did you mean 'min_rating'?)"),
        ({"filter": [{"verified": "a", "max_chars": 3}]}, "exactly one of verified"),
        ({"filter": [{"min_rating": {"of": "a..b", "at_least": 1.0}}]}, "no column path"),
        ({"select": {"frist": 3}}, "select.frist: unknown key (did you mean 'first'?)"),
        ({"select": {"first": 3, "top": {"n": 3, "by": "a"}}}, "exactly one of first, random and top"),
        ({"select": {"first": 0}}, "greater than or equal to 1"),
        ({"source": {"hub": "me/mine", "revision": "main", "files": ["a"]}}, "source.revision"),
        ({"source": {"hub": "me/mine", "revision": "0" * 40}}, "hub needs files"),
        ({"source": {"url": "https://a/b.jsonl", "revision": "0" * 40}}, "holds {revision}"),
        ({"response": {"template": "{a}", "remove": ["("]}}, "no regular expression"),
        ({"prompt": "{a"}, "prompt.template"),
        ({"name": "../mine"}, "name"),
        ({"response": ...}, "response: Field required"),
        ({"variants": {"bad": {"selec": None}}}, "variant bad"),
        ({"duplicates": "remove"}, "'keep' or 'drop'"),
    ],
)
def test_what_is_not_understood_is_named(tmp_path, changes, message):
    path = write(tmp_path, **changes)
    with pytest.raises(ConfigError) as error:
        load_recipe(path)
    assert message in str(error.value) and path in str(error.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gsm8", "did you mean 'gsm8k'"),
        ("gsm8k/plane", "did you mean 'plain'"),
        ("nq-train/x", "variants: none"),
        ("there/is/none.yaml", "is not there"),
    ],
)
def test_unknown_recipes(name, message):
    with pytest.raises(ConfigError, match=message):
        load_recipe(name)


def test_no_yaml(tmp_path):
    (tmp_path / "a.yaml").write_text("a: [")
    (tmp_path / "b.yaml").write_text("- a")
    for name in ("a", "b"):
        with pytest.raises(ConfigError, match=f"{name}.yaml"):
            load_recipe(str(tmp_path / f"{name}.yaml"))


def test_other_numbers_and_seeds():
    assert with_selection(load_recipe("gsm8k"), 5, None).select.first == 5
    drawn = with_selection(load_recipe("numinamath-cot/random"), 5, 7).select.random
    assert (drawn.n, drawn.seed) == (5, 7)
    assert with_selection(load_recipe("ultrafeedback-best/top"), 5, None).select.top.n == 5
    with pytest.raises(ConflictError, match="draws no rows"):
        with_selection(load_recipe("gsm8k"), None, 1)
