"""Every format of training data, and rows that must be refused by file and row."""

import json

import pytest

from dft_plugin.encoding.datasets import read_datasets
from dft_plugin.errors import ConfigError, InputError, MissingPrerequisiteError

ROWS = {
    "messages": {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
    "sharegpt": {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
    "alpaca": {"instruction": "q", "input": "", "output": "a"},
    "prompt_response": {"prompt": "q", "response": "a"},
    "query_response": {"query": "q", "response": "a"},
}


def write(path, rows):
    text = json.dumps(rows) if path.suffix == ".json" else "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text)
    return path


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize("name", ROWS)
def test_formats(tmp_path, name, suffix):
    (dataset,) = read_datasets([write(tmp_path / f"d{suffix}", [ROWS[name], ROWS[name]])])
    assert (dataset.name, dataset.format, len(dataset.rows)) == ("d", name, 2)
    assert [tuple(turn) for turn in dataset.rows[0].turns] == [("user", "q"), ("assistant", "a")]
    assert [row.repeat for row in dataset.rows] == [0, 1]  # a copy is a sample of its own
    assert len({row.key for row in dataset.rows}) == 2


def test_text_and_unicode_line_separators(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps({"text": "one\u2028two"}, ensure_ascii=False) + "\n\n")
    (dataset,) = read_datasets([path])
    assert dataset.format == "text" and dataset.rows[0].text == "one\u2028two"


def test_system_history_and_input(tmp_path):
    row = {"instruction": "q", "input": "i", "output": "a", "system": "s", "history": [["q0", "a0"]]}
    (dataset,) = read_datasets([write(tmp_path / "d.json", [row])])
    expected = [("system", "s"), ("user", "q0"), ("assistant", "a0"), ("user", "q\ni"), ("assistant", "a")]
    assert [tuple(turn) for turn in dataset.rows[0].turns] == expected


def test_images_start_from_the_file(tmp_path):
    row = {"query": "<image>q", "response": "a", "images": ["sub/x.png"]}
    (dataset,) = read_datasets([write(tmp_path / "d.json", [row])])
    assert dataset.rows[0].images == (tmp_path / "sub/x.png",)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "q", "answer": "a"}, "fits no known format"),
        ({**ROWS["alpaca"], **ROWS["messages"]}, "fits messages and alpaca"),
        ("text", "a str"),
        ({"messages": []}, "list of turns"),
        ({"messages": [{"role": "user", "content": "q"}]}, "not the assistant's"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "does not follow a user turn"),
        ({"messages": [{"role": "tool", "content": "q"}]}, "role='tool'"),
        ({"messages": [{"role": "user", "content": "q", "loss": False}]}, "loss"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "text is accepted"),
        ({"conversations": [{"from": "observation", "value": "q"}]}, "from='observation'"),
        ({"prompt": "q", "response": ""}, "non-empty text"),
        ({"prompt": "", "response": "a"}, "'prompt' is empty"),
        ({"prompt": "q", "response": "a", "history": ["x"]}, "pairs"),
        ({"prompt": "q", "response": "a", "tools": "[]x"}, "'tools'"),
        ({"prompt": "q", "response": "a", "images": ["x.png"]}, "1 images and 0 <image> marks"),
        ({"prompt": "q", "response": "a", "images": [{"bytes": ""}]}, "a path"),
        ({"text": ""}, "non-empty text"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, message):
    good = {"text": "x"} if isinstance(row, dict) and "text" in row else ROWS["messages"]
    path = write(tmp_path / "d.jsonl", [good, row])
    with pytest.raises(InputError, match=message) as error:
        read_datasets([path])
    assert f"{path}, line 2" in str(error.value)


def test_formats_do_not_mix(tmp_path):
    with pytest.raises(InputError, match="row 2: the row is 'alpaca', the rows before are 'messages'"):
        read_datasets([write(tmp_path / "d.json", [ROWS["messages"], ROWS["alpaca"]])])


def test_unreadable_files(tmp_path):
    with pytest.raises(MissingPrerequisiteError, match="not there"):
        read_datasets([tmp_path / "absent.jsonl"])
    with pytest.raises(ConfigError, match=r"\.json and \.jsonl"):
        read_datasets([tmp_path / "d.csv"])
    with pytest.raises(ConfigError, match="two data files are called 'd'"):
        read_datasets([tmp_path / "d.json", tmp_path / "d.jsonl"])
    (tmp_path / "broken.jsonl").write_text('{"text": "x"}\n{"text": ')
    with pytest.raises(InputError, match=r"broken\.jsonl, line 2: not JSON"):
        read_datasets([tmp_path / "broken.jsonl"])
    (tmp_path / "object.json").write_text("{}")
    with pytest.raises(InputError, match="a JSON list"):
        read_datasets([tmp_path / "object.json"])
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(InputError, match="no rows"):
        read_datasets([tmp_path / "empty.jsonl"])
