"""Each recipe on files of the published schema: what is written, and what the manifest says of it."""

import json

import pytest

from dft_plugin.errors import ConfigError, ConflictError, InputError
from tests.data.builds import build_from
from tests.data.upstream import IN_PARQUET, ROWS, read_jsonl, write_jsonl, write_parquet, write_upstream

FIRST_ROWS = {
    "numinamath-cot": ("What is 0 + 1?", "We add one to 0: $\\boxed{1}$."),
    "openr1-math-220k": ("Find 1 squared.", "<think>\nright 1\n</think>\n\\boxed{1}"),
    "luffy-46k": ("Halve 0.", "<think>\n0 / 2 = 0\n</think>\n\\boxed{0}"),
    "luffy-46k/without-think-tag": ("Halve 0.", "0 / 2 = 0\n</think>\n\\boxed{0}"),
    "ultrafeedback-best/all": ("Write function number 0.", "answer 0 to 0"),
    "wethink": ("<image>What is on picture 0?", "<think>I see noise 0.</think><answer>noise 0</answer>"),
    "nq-train": ("Q: who wrote book 0?\nA:", "Author 0"),
    "gsm8k": ("Ann has 0 apples and buys one. How many?", "0+1=<<0+1=1>>1\n#### 1"),
    "gsm8k/plain": ("Ann has 0 apples and buys one. How many?", "0+1=1\n#### 1"),
}


def build_small(recipe, folder, count=12, **settings):
    name = recipe.split("/")[0]
    file = write_upstream(folder / "upstream", name, count)
    images = {"image_dir": folder / "upstream" / "images"} if name == "wethink" else {}
    return build_from(recipe, folder / "out", file, **images, **settings)


def data_rows(folder, manifest):
    return read_jsonl(folder / "out" / f"{manifest['recipe']['name']}.jsonl")


@pytest.mark.parametrize("recipe", FIRST_ROWS)
def test_first_row(tmp_path, recipe):
    manifest = build_small(recipe, tmp_path, rows=8)
    rows = data_rows(tmp_path, manifest)
    assert len(rows) == manifest["rows"]["written"] == 8
    *system, prompt, response = rows[0]["messages"]
    assert (prompt["content"], response["content"]) == FIRST_ROWS[recipe]
    assert (prompt["role"], response["role"]) == ("user", "assistant")
    assert bool(system) == (recipe == "wethink")
    assert rows[0].get("images") == (["coco/0.png"] if recipe == "wethink" else None)


def test_schemas_are_complete():
    assert set(ROWS) == {name.split("/")[0] for name in FIRST_ROWS}


def test_the_best_response_is_taken_whatever_the_overall_score(tmp_path):
    rows = data_rows(tmp_path, build_small("ultrafeedback-best/all", tmp_path))
    assert [row["messages"][-1]["content"] for row in rows] == [f"answer {i % 4} to {i}" for i in range(12)]


def test_unverified_rows_are_counted_and_listed(tmp_path):
    manifest = build_small("openr1-math-220k", tmp_path)
    assert manifest["rows"] == {"read": 12, "passed": 8, "noted": {"no_item": 4}, "written": 8}
    notes = read_jsonl(tmp_path / "out" / "noted_rows.jsonl")
    assert [(note["row"], note["reason"], note["is_kept"]) for note in notes] == [
        (row, "no_item", False) for row in (0, 3, 6, 9)
    ]


def test_random_rows_are_another_sample_for_another_seed_and_in_order(tmp_path):
    samples = {}
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        rows = data_rows(folder, build_small("numinamath-cot/random", folder, 60, rows=20, seed=seed))
        samples[seed] = [int(row["messages"][0]["content"].split()[2]) for row in rows]
        assert samples[seed] == sorted(set(samples[seed])) and len(samples[seed]) == 20
    assert samples[0] != samples[1]
    assert samples[0] != list(range(20))


def test_top_rows_are_those_rated_highest_the_first_of_equals(tmp_path):
    rows = ROWS["ultrafeedback-best"](6)
    for index, rating in enumerate(("3", "4", "2", "4", "1", "4")):
        for completion in rows[index]["completions"]:
            completion["annotations"] = {"helpfulness": {"Rating": rating}, "honesty": {"Rating": "N/A"}}
    file = write_jsonl(tmp_path / "a.jsonl", rows)
    manifest = build_from("ultrafeedback-best/top", tmp_path / "out", file, rows=4)
    prompts = [row["messages"][0]["content"] for row in data_rows(tmp_path, manifest)]
    assert prompts == [f"Write function number {i}." for i in (0, 1, 3, 5)]


def test_the_same_build_twice_gives_the_same_bytes_on_any_machine(tmp_path):
    for name in ("one", "another/folder"):
        build_small("wethink", tmp_path / name, format="llamafactory")
    files = sorted(path.name for path in (tmp_path / "one" / "out").iterdir())
    assert files == ["dataset_info.json", "manifest.json", "noted_rows.jsonl", "wethink.jsonl"]
    for name in files:
        content = (tmp_path / "one" / "out" / name).read_bytes()
        assert content == (tmp_path / "another/folder/out" / name).read_bytes()
        assert str(tmp_path).encode() not in content


def test_several_files_and_formats_are_one_source(tmp_path):
    rows = ROWS["gsm8k"](9)
    files = [write_parquet(tmp_path / "b.parquet", rows[:4]), write_jsonl(tmp_path / "a.jsonl", rows[4:])]
    manifest = build_from("gsm8k", tmp_path / "out", *files)
    assert [file["name"] for file in manifest["source"]["files"]] == ["b.parquet", "a.jsonl"]
    assert [row["messages"][0]["content"] for row in data_rows(tmp_path, manifest)] == [r["question"] for r in rows]
    assert IN_PARQUET


def test_dataset_info(tmp_path):
    build_small("wethink", tmp_path, format="llamafactory")
    entry = json.loads((tmp_path / "out" / "dataset_info.json").read_text())["wethink"]
    assert entry["file_name"] == "wethink.jsonl" and entry["columns"] == {"messages": "messages", "images": "images"}


def test_a_finished_build_is_kept_and_another_is_refused(tmp_path):
    manifest = build_small("gsm8k", tmp_path)
    assert build_small("gsm8k", tmp_path) == manifest
    with pytest.raises(ConflictError, match="format ms_swift -> llamafactory"):
        build_small("gsm8k", tmp_path, format="llamafactory")
    with pytest.raises(ConflictError, match="sha256"):
        build_small("gsm8k", tmp_path, count=13)  # upstream changed
    build_small_out = tmp_path / "out" / "gsm8k.jsonl"
    build_small_out.write_text("")
    with pytest.raises(ConflictError, match="not as the build wrote it"):
        build_small("gsm8k", tmp_path)


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").touch()
    with pytest.raises(ConflictError, match="notes.txt"):
        build_small("gsm8k", tmp_path)


def test_too_few_rows_are_never_a_dataset(tmp_path):
    with pytest.raises(InputError, match="12 of 12 rows passed; 100000 are to be taken"):
        build_small("numinamath-cot", tmp_path)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_lengths_in_tokens(tmp_path):
    from dft_plugin.demo.bpe_tokenizer import make_bpe_tokenizer

    tokenizer = make_bpe_tokenizer(["Ann has 3 apples"] * 5, vocab_size=280)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    build_small("gsm8k", tmp_path)
    manifest = build_small("gsm8k", tmp_path, tokenizer=str(tmp_path / "tokenizer"))
    rows = data_rows(tmp_path, manifest)
    counts = [len(tokenizer(row["messages"][1]["content"])["input_ids"]) for row in rows]
    lengths = manifest["lengths"]["response"]
    assert (lengths["total"], lengths["min"], lengths["max"]) == (sum(counts), min(counts), max(counts))
    assert json.loads((tmp_path / "out" / "manifest.json").read_text()) == manifest
    with pytest.raises(ConfigError, match="cannot be loaded"):
        build_small("gsm8k", tmp_path, tokenizer=str(tmp_path / "none"))
