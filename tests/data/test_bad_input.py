"""Bad rows are counted and listed; damaged files and full disks stop the build and say so."""

import gzip
import json
import resource

import pytest
import yaml

from dft_plugin.errors import ConfigError, ConflictError, InputError, MissingPrerequisiteError, StorageError
from tests.data.builds import build_from
from tests.data.upstream import ROWS, read_jsonl, write_images, write_jsonl, write_parquet


def notes(folder):
    return {note["row"]: (note["reason"], note["is_kept"]) for note in read_jsonl(folder / "out" / "noted_rows.jsonl")}


def test_each_bad_row_is_listed_with_its_reason(tmp_path):
    good = {"question": "1+1?", "answer": "2"}
    rows = [
        good,
        {"question": "no answer"},
        {"question": None, "answer": "2"},
        {"question": 3, "answer": "2"},
        {"question": "empty", "answer": ""},
        {"question": " \n", "answer": "blank"},
        ["no", "object"],
        {**good, "answer": "the same question, another answer"},
        {"question": "<image> of what?", "answer": "2"},
        {"question": "watch <video>", "answer": "2"},
        {"question": "half a pair \ud800", "answer": "2"},
        {"question": "2+2?", "answer": ["4"]},
        {"question": "line separators \u2028\x85 stay", "answer": "yes", "more": 1},
    ]
    manifest = build_from("gsm8k", tmp_path / "out", write_jsonl(tmp_path / "a.jsonl", rows))
    assert notes(tmp_path) == {
        1: ("missing_field", False),
        2: ("missing_field", False),
        3: ("wrong_type", False),
        4: ("empty_response", False),
        5: ("empty_prompt", False),
        6: ("wrong_type", False),
        7: ("duplicate_question", True),
        8: ("image_marks", False),
        9: ("image_marks", False),
        10: ("not_unicode", False),
        11: ("wrong_type", False),
    }
    assert manifest["rows"]["read"] == 13 and manifest["rows"]["written"] == 3
    assert manifest["rows"]["noted"]["wrong_type"] == 3
    written = read_jsonl(tmp_path / "out" / "gsm8k.jsonl")
    assert written[-1]["messages"][0]["content"] == rows[-1]["question"]


def test_blank_lines_are_counted(tmp_path):
    (tmp_path / "a.jsonl").write_text('\ufeff{"question": "a", "answer": "b"}\n\n{"question": "c", "answer": "d"}')
    manifest = build_from("gsm8k", tmp_path / "out", tmp_path / "a.jsonl")
    assert manifest["rows"] == {"read": 3, "passed": 2, "noted": {"blank_line": 1}, "written": 2}


def test_ratings_that_are_none(tmp_path):
    rows = ROWS["ultrafeedback-best"](4)
    for completion in rows[0]["completions"]:
        completion["annotations"] = {"honesty": {"Rating": "N/A"}}
    rows[1]["completions"][2]["annotations"]["honesty"]["Rating"] = "excellent"
    rows[2]["completions"] = []
    manifest = build_from("ultrafeedback-best/all", tmp_path / "out", write_jsonl(tmp_path / "a.jsonl", rows))
    assert notes(tmp_path) == {0: ("no_rating", False), 1: ("wrong_type", False), 2: ("no_item", False)}
    assert manifest["rows"]["written"] == 1


def test_lists_that_do_not_fit_together(tmp_path):
    rows = ROWS["openr1-math-220k"](3)
    rows[1]["is_reasoning_complete"] = [True]
    rows[2]["generations"] = None
    build_from(
        "openr1-math-220k",
        tmp_path / "out",
        write_jsonl(tmp_path / "a.jsonl", [rows[1], rows[2], rows[1] | {"is_reasoning_complete": [True, True]}]),
    )
    assert notes(tmp_path) == {0: ("wrong_type", False), 1: ("missing_field", False)}


def test_images_that_are_none(tmp_path):
    rows = ROWS["wethink"](6)
    write_images(tmp_path / "images", [row["image_path"] for row in rows])
    (tmp_path / "images/coco/1.png").write_bytes(b"no image")
    whole = (tmp_path / "images/coco/2.png").read_bytes()
    (tmp_path / "images/coco/2.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "images/coco/3.png").unlink()
    rows[4]["image_path"] = "../outside.png"
    rows[5]["problem"] = "<image>two marks"
    file = write_jsonl(tmp_path / "a.jsonl", rows)
    manifest = build_from("wethink", tmp_path / "out", file, image_dir=tmp_path / "images")
    assert notes(tmp_path) == {
        1: ("image_unreadable", False),
        2: ("image_unreadable", False),
        3: ("image_missing", False),
        4: ("image_path", False),
        5: ("image_marks", False),
    }
    assert manifest["rows"]["images"] == 1 == manifest["rows"]["written"]
    with pytest.raises(ConfigError, match="--image-dir"):
        build_from("wethink", tmp_path / "other", file)


RECIPE = {
    "name": "mine",
    "about": "filters",
    "source": {"hub": "me/mine", "revision": None, "files": ["a"]},
    "prompt": "{q}",
    "response": "{a}",
    "duplicates": "drop",
    "filter": [
        {"verified": "ok"},
        {"min_rating": {"of": "ratings.*", "at_least": 3.0}},
        {"max_chars": 10},
        {"non_empty": "tags"},
        {"equals": {"source": ["x", "y"]}},
    ],
}


def test_filters_are_counted_by_name(tmp_path):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(RECIPE))
    good = {"q": "q0", "a": "a", "ok": True, "ratings": [4, "N/A"], "tags": ["t"], "source": "x"}
    changes = [{}, {"ok": False}, {"ratings": [2]}, {"ratings": ["N/A"]}, {"a": "a" * 9}, {"tags": []}, {"source": "z"}]
    changes += [{"ok": 1}, {"source": "y"}]
    rows = [{**good, "q": f"q{i}", **change} for i, change in enumerate(changes)] + [good]
    manifest = build_from(str(tmp_path / "mine.yaml"), tmp_path / "out", write_jsonl(tmp_path / "a.jsonl", rows))
    assert manifest["rows"]["noted"] == {
        "duplicate_question": 1,
        "filter_equals": 1,
        "filter_max_chars": 1,
        "filter_min_rating": 2,
        "filter_non_empty": 1,
        "filter_verified": 1,
        "wrong_type": 1,
    }
    assert manifest["rows"]["written"] == 2 and not any(is_kept for _, is_kept in notes(tmp_path).values())


def damaged(folder, kind):
    rows = ROWS["gsm8k"](3000)
    whole = write_parquet(folder / "a.parquet", rows).read_bytes()
    text = write_jsonl(folder / "whole.jsonl", rows).read_bytes()
    files = {
        "cut.parquet": whole[: len(whole) // 2],
        "page.parquet": whole[:2000] + b"\0" * 3000 + whole[5000:],
        "cut.jsonl": text[:-5],
        "cut.jsonl.gz": gzip.compress(text)[:-2000],
        "text.jsonl.gz": text,
        "latin.jsonl": '{"question": "é", "answer": "b"}\n'.encode("latin-1"),
        "nothing.jsonl": b"",
    }
    (folder / kind).write_bytes(files[kind])
    return folder / kind


@pytest.mark.parametrize(
    "kind",
    ["cut.parquet", "page.parquet", "cut.jsonl", "cut.jsonl.gz", "text.jsonl.gz", "latin.jsonl", "nothing.jsonl"],
)
def test_damaged_files_stop_the_build(tmp_path, kind):
    file = damaged(tmp_path, kind)
    with pytest.raises(InputError, match=f"{kind}|0 of 0 rows passed"):
        build_from("gsm8k", tmp_path / "out", file)
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert not (tmp_path / "out" / "gsm8k.jsonl").exists()


def test_another_schema_is_named(tmp_path):
    file = write_parquet(tmp_path / "a.parquet", [{"problem": "a", "answer": "b"}])
    with pytest.raises(InputError, match="no column question, which the recipe reads; it has problem, answer"):
        build_from("gsm8k", tmp_path / "out", file)


def test_files_that_are_not_read(tmp_path):
    with pytest.raises(MissingPrerequisiteError, match="is not there"):
        build_from("gsm8k", tmp_path / "out", tmp_path / "none.parquet")
    (tmp_path / "a.csv").touch()
    with pytest.raises(ConfigError, match=r"\.parquet, \.jsonl, \.jsonl\.gz are accepted"):
        build_from("gsm8k", tmp_path / "out", tmp_path / "a.csv")
    with pytest.raises(MissingPrerequisiteError, match="holds no file"):
        build_from("gsm8k", tmp_path / "out", tmp_path)


@pytest.fixture
def full_disk():
    """No file may grow beyond 100 kB."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_stops_the_build_which_goes_on_with_room(tmp_path, full_disk):
    rows = ROWS["gsm8k"](4000)
    full_disk()
    file = write_parquet(tmp_path / "a.parquet", rows)
    whole = build_from("gsm8k", tmp_path / "whole", file)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    with pytest.raises(StorageError, match="no room to write"):
        build_from("gsm8k", tmp_path / "out", file)
    assert not (tmp_path / "out" / "manifest.json").exists()
    progress = json.loads((tmp_path / "out" / ".build" / "progress.json").read_text())
    assert 0 < progress["state"]["row"] < 4000
    full_disk()
    assert build_from("gsm8k", tmp_path / "out", file) == whole


def test_a_build_begun_with_other_data_is_not_gone_on_with(tmp_path):
    file = write_jsonl(tmp_path / "a.jsonl", ROWS["gsm8k"](3))
    with pytest.raises(InputError, match="3 of 3 rows passed"):
        build_from("gsm8k", tmp_path / "out", file, rows=5)
    write_jsonl(file, ROWS["gsm8k"](6))
    with pytest.raises(ConflictError, match="begun with other settings or other data"):
        build_from("gsm8k", tmp_path / "out", file, rows=5)


def test_a_work_folder_that_was_changed_is_refused(tmp_path):
    file = write_jsonl(tmp_path / "a.jsonl", ROWS["gsm8k"](3))
    with pytest.raises(InputError):
        build_from("gsm8k", tmp_path / "out", file, rows=5)
    examples = tmp_path / "out" / ".build" / "examples.jsonl"
    examples.write_bytes(examples.read_bytes().replace(b"apples", b"apfels"))
    with pytest.raises(InputError, match="not as the build left it"):
        build_from("gsm8k", tmp_path / "out", file, rows=5)
