"""Answers made elsewhere: bad records are named by line, nothing is lost or counted twice."""

import gzip
import json
import logging

import pytest

from dft_eval.errors import RecordsError
from dft_eval.records.samples import read_answers
from dft_eval.records.schema import Answer

IDS = ("HumanEval/0", "HumanEval/1")
GOOD = b'{"sample_id": "HumanEval/0", "completion": "    return 1"}'


def read(tmp_path, *lines):
    path = tmp_path / "samples.jsonl"
    path.write_bytes(b"\n".join(lines))
    return read_answers(path, IDS)


def test_the_three_texts(tmp_path):
    found = read(
        tmp_path,
        GOOD,
        b"",
        b'{"sample_id": "HumanEval/0", "repeat": 1, "program": "x = 1"}',
        b'{"sample_id": "HumanEval/1", "answer": "", "finish_reason": "length"}',
    )
    assert found == [
        Answer("HumanEval/0", completion="    return 1"),
        Answer("HumanEval/0", 1, program="x = 1"),
        Answer("HumanEval/1", response="", finish_reason="length"),
    ]


def test_what_a_model_may_write_is_no_error(tmp_path):
    for text in ("", "a\0b", "x" * 10_000_000, "\u2028\x85\r\n", "\U0010ffff"):
        line = json.dumps({"sample_id": "HumanEval/1", "completion": text}).encode()
        assert read(tmp_path, GOOD, line)[1].completion == text


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"{", "Invalid JSON"),
        (b"[]", "should be an object"),
        (b"null", "should be an object"),
        (b'{"sample_id": "HumanEval/1"}', "found no text; exactly one of completion, program, answer"),
        (b'{"sample_id": "HumanEval/1", "completion": null}', "found no text"),
        (b'{"sample_id": "HumanEval/1", "completion": "a", "answer": "b"}', "found completion and answer"),
        (b'{"sample_id": "HumanEval/1", "completion": 3}', "completion: Input should be a valid string"),
        (b'{"sample_id": "HumanEval/1", "completion": ["a"]}', "completion: Input should be a valid string"),
        (b'{"sample_id": 1, "completion": "a"}', "sample_id: Input should be a valid string"),
        (b'{"completion": "a"}', "sample_id: Field required"),
        (b'{"sample_id": "HumanEval/1", "completion": "a", "repeat": -1}', "repeat"),
        (b'{"sample_id": "HumanEval/1", "completion": "a", "repeat": "0"}', "repeat"),
        (b'{"sample_id": "HumanEval/1", "completion": "a", "repeat": true}', "repeat"),
        (b'{"sample_id": "HumanEval/1", "completion": "a", "temprature": 0}', "temprature: Extra inputs"),
        (b'{"sample_id": "HumanEval/7", "completion": "a"}', "'HumanEval/7' is not in this benchmark"),
        (b'{"sample_id": "HumanEval/1", "completion": "\xff\xfe"}', "Invalid JSON"),
        (b'{"sample_id": "HumanEval/1", "completion": "a\0b"}', "Invalid JSON"),
        (b'{"sample_id": "HumanEval/1", "completion": "\\ud800"}', "Invalid JSON"),
        (b"\0\0\0\0", "Invalid JSON"),
        (b'{"sample_id": "HumanEval/0", "completion": "other"}', "already on line 1 with different content"),
    ],
)
def test_bad_lines_are_named(tmp_path, line, complaint):
    with pytest.raises(RecordsError, match=r"samples\.jsonl, line 3: ") as caught:
        read(tmp_path, GOOD, b"", line)
    assert complaint in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"\xef\xbb\xbf" + GOOD, "starts with a byte order mark; accepted is UTF-8 .* Run: tail -c [+]4"),
        (GOOD.decode().encode("utf-16"), "is UTF-16; .* Run: iconv"),
        (gzip.compress(GOOD, mtime=0), "is compressed with gzip; .* Run: gunzip -c"),
        (b"[" + GOOD + b"]", "is one JSON array; .* Run: jq"),
        (b"sample_id,completion\nHumanEval/0,x\n", "line 1: the header of a table .CSV or TSV.; .* Run: python"),
        (b'"task_id"\t"solution"\r\n', "line 1: the header of a table"),
        (b'{"task_id": "HumanEval/0", "solution": "x"}', "line 1: task_id: .* EvalPlus .*program: .solution}"),
        (b'{"task_id": "HumanEval/0", "completion": "x"}', "line 1: task_id: .*completion: .completion}"),
        (b'{"sample_id": "HumanEval/0" "completion"}', "line 1: Invalid JSON: .* at column 29$"),
    ],
)
def test_other_formats_are_recognised(tmp_path, content, complaint):
    with pytest.raises(RecordsError, match=rf"samples\.jsonl.*{complaint}"):
        read(tmp_path, content)


def test_an_exact_repetition_is_ignored_and_counted(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert len(read(tmp_path, GOOD, GOOD, GOOD)) == 1
    assert "2 lines repeat earlier ones" in caplog.text


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_an_empty_file_is_refused(tmp_path, content):
    with pytest.raises(RecordsError, match="holds no record"):
        read(tmp_path, content)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    for path in (tmp_path / "absent.jsonl", tmp_path):
        with pytest.raises(RecordsError, match="cannot be read"):
            read_answers(path, IDS)
