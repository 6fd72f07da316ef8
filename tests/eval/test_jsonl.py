"""The append-only log: whole records or none, whatever happens."""

import json
import logging
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dft_eval.errors import DiskFullError, StoreError
from dft_eval.records.jsonl import JsonlLog
from dft_eval.records.samples import answer_key, dump_answer, parse_answer
from dft_eval.records.schema import Answer, Score
from dft_eval.records.store import RunFolder


def open_log(path):
    return JsonlLog(path, parse_answer, dump_answer, answer_key)


def answers(count, text="x"):
    return [Answer(f"id/{i}", completion=text * (1 + i % 7)) for i in range(count)]


def test_records_come_back(tmp_path):
    written = [
        Answer("a", completion="ü\n\u2028\0\x1f"),
        Answer("a", 1, program=""),
        Answer("b", response="42", finish_reason="length"),
    ]
    with open_log(tmp_path / "log.jsonl") as log:
        log.append(written[:1])
        log.append(written[1:])
    with open_log(tmp_path / "log.jsonl") as log:
        assert list(log.records.values()) == written
    assert (tmp_path / "log.jsonl").read_bytes().count(b"\n") == 3


def test_half_a_surrogate_pair_does_not_break_the_file(tmp_path):
    with open_log(tmp_path / "log.jsonl") as log:
        log.append([Answer("a", completion="x\ud800y")])
    with open_log(tmp_path / "log.jsonl") as log:
        assert log.records["a", 0].completion == "x?y"


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 8), cut=st.integers(0, 10_000), text=st.text(max_size=5))
def test_a_file_cut_anywhere_resumes_to_the_same_records(tmp_path_factory, count, cut, text):
    path = tmp_path_factory.mktemp("cut") / "log.jsonl"
    wanted = [Answer(f"id/{i}", completion=text.encode("utf-8", "replace").decode()) for i in range(count)]
    with open_log(path) as log:
        log.append(wanted)
    whole = path.read_bytes()
    path.write_bytes(whole[: cut % (len(whole) + 1)])
    with open_log(path) as log:
        assert list(log.records.values()) == wanted[: len(log.records)]
        log.append(answer for answer in wanted if answer_key(answer) not in log.records)
    assert path.read_bytes() == whole


def test_a_cut_line_is_dropped_with_a_warning(tmp_path, caplog):
    path = tmp_path / "log.jsonl"
    with open_log(path) as log:
        log.append(answers(2))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"sample_id": "id/2", "compl')
    with caplog.at_level(logging.WARNING), open_log(path) as log:
        assert len(log.records) == 2
    assert "the last line was cut off (28 bytes)" in caplog.text
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "bad", [b"{nonsense}", b'{"sample_id": "z"}', b"\0\0\0", b'{"sample_id": "z", "completion": "\xff"}']
)
def test_a_damaged_line_names_file_and_line(tmp_path, bad):
    path = tmp_path / "log.jsonl"
    with open_log(path) as log:
        log.append(answers(2))
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], bad, lines[1], b""]))
    with pytest.raises(StoreError, match=r"log\.jsonl, line 2: "):
        open_log(path)


def test_a_repeated_line_is_ignored_and_a_contradicting_one_refused(tmp_path, caplog):
    path = tmp_path / "log.jsonl"
    with open_log(path) as log:
        log.append(answers(2))
    first = path.read_bytes().splitlines(keepends=True)[0]
    path.write_bytes(path.read_bytes() + first)
    with caplog.at_level(logging.WARNING), open_log(path) as log:
        assert len(log.records) == 2
    assert "1 lines repeat" in caplog.text
    path.write_bytes(path.read_bytes() + first.replace(b'"x"', b'"y"'))
    with pytest.raises(StoreError, match=r"line 4: 'id/0' repeat 0 is already on line 1 with different content"):
        open_log(path)


def test_a_record_is_written_once(tmp_path):
    with open_log(tmp_path / "log.jsonl") as log:
        log.append(answers(1))
        with pytest.raises(StoreError, match="written once"):
            log.append(answers(1))
        with pytest.raises(StoreError, match="written once"):
            log.append([Answer("n", completion="1"), Answer("n", completion="2")])


def test_a_full_disk_loses_nothing(tmp_path):
    path = tmp_path / "log.jsonl"
    with open_log(path) as log:
        log.append(answers(3))
        before = path.read_bytes()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, hard))  # some of the next record fits
        try:
            with pytest.raises(DiskFullError, match="no room to append to .*log.jsonl"):
                log.append([Answer("big", completion="y" * 1000)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.read_bytes() == before
        log.append([Answer("big", completion="y" * 1000)])
    with open_log(path) as log:
        assert len(log.records) == 4


def test_a_really_full_file_system_loses_nothing(tmp_path):
    """ENOSPC itself, on a tmpfs of 64 KiB in a mount namespace of its own."""
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from dft_eval.errors import DiskFullError
from tests.eval.test_jsonl import answers, open_log
from dft_eval.records.schema import Answer
path = Path({str(tmp_path)!r}) / "log.jsonl"
with open_log(path) as log:
    log.append(answers(3)); before = path.read_bytes()
    try: log.append([Answer("big", completion="y" * 100_000)])
    except DiskFullError as error: assert "No space left" in str(error), error
    else: raise SystemExit("it fit")
    assert path.read_bytes() == before
print("intact")
"""
    mount = f'mount -t tmpfs -o size=64k none {tmp_path} && exec "$0" -c "$1"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, sys.executable, code]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unshare" in result.stderr or "mount:" in result.stderr:
        pytest.skip(f"needs a mount namespace: {result.stderr.strip()}")
    assert result.stdout.strip() == "intact", result.stderr


def test_25_thousand_records_are_read_in_two_seconds(tmp_path):
    folder = RunFolder(tmp_path)
    with folder.claimed({}):
        with folder.generations() as log:
            log.append(Answer(f"id/{i}", completion="def f(x):\n    return x\n" * 20) for i in range(25_000))
        with folder.scores() as log:
            log.append(Score(f"id/{i}", 0, True, "ok", 1.0, {"stderr": "e" * 200}) for i in range(25_000))
        started = time.process_time()
        with folder.generations() as generations, folder.scores() as scores:
            assert len(generations.records) == len(scores.records) == 25_000
        assert time.process_time() - started < 2.0


def test_lines_are_plain_json(tmp_path):
    with open_log(tmp_path / "log.jsonl") as log:
        log.append([Answer("a", 2, completion="ü", finish_reason="stop")])
    line = json.loads((tmp_path / "log.jsonl").read_text())
    assert line == {"sample_id": "a", "repeat": 2, "completion": "ü", "finish_reason": "stop"}
