"""The run folder: settings that may not change, one writer, infrastructure errors tried again."""

import json
import subprocess
import sys

import pytest

from dft_eval.errors import ChangedRunError, DiskFullError, StoreError
from dft_eval.records.changes import compare_settings
from dft_eval.records.files import write_whole
from dft_eval.records.schema import Score
from dft_eval.records.store import RunFolder

SETTINGS = {"task": "t", "temperature": 0.0, "fingerprint": {"gcc": "12", "java": "17"}}


def test_run_json_says_what_made_the_run(tmp_path):
    with RunFolder(tmp_path).claimed(SETTINGS):
        pass
    content = json.loads((tmp_path / "run.json").read_text())
    assert content["schema_version"] == 1 and content["settings"] == SETTINGS
    (environment,) = content["environments"]
    assert (environment["versions"]["python"] and environment["git"] is None) or len(environment["git"]["commit"]) == 40


@pytest.mark.parametrize("name", ["generations.jsonl", "scores.jsonl"])
def test_changed_settings_are_refused_by_name(tmp_path, name):
    with RunFolder(tmp_path).claimed(SETTINGS):
        (tmp_path / name).write_text("{}\n")
    changed = SETTINGS | {"temperature": 0.7, "fingerprint": {"gcc": "13", "java": "17"}}
    with (
        pytest.raises(
            ChangedRunError,
            match=r"run.json differs in: temperature 0.0 -> 0.7; fingerprint.gcc 12 -> 13; use a new --out",
        ),
        RunFolder(tmp_path).claimed(changed),
    ):
        pass
    with RunFolder(tmp_path).claimed(SETTINGS):
        pass
    assert len(json.loads((tmp_path / "run.json").read_text())["environments"]) == 1


def test_settings_may_change_while_nothing_is_recorded(tmp_path):
    folder = RunFolder(tmp_path)
    with folder.claimed(SETTINGS), folder.generations(), folder.scores():
        pass
    with folder.claimed(SETTINGS | {"temperature": 0.7}):
        pass
    found = folder.read_run()
    assert found["settings"] == SETTINGS | {"temperature": 0.7} and len(found["environments"]) == 1


def test_compare_settings_names_what_appears_and_goes():
    assert compare_settings({"a": 1, "b": None}, {"b": None, "c": "x"}) == ["a 1 -> (absent)", "c (absent) -> x"]
    assert compare_settings({"a": None}, {}) == ["a null -> (absent)"]


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "scores.jsonl").write_text("{}\n")
    with (
        pytest.raises(ChangedRunError, match="has no run.json but holds scores.jsonl"),
        RunFolder(tmp_path).claimed({}),
    ):
        pass


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema_version": 2, "settings": {}, "environments": []}'])
def test_an_unreadable_run_json_is_refused(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(StoreError, match=r"run\.json"), RunFolder(tmp_path).claimed({}):
        pass


def test_a_path_that_cannot_be_a_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be made"), RunFolder(tmp_path / "file" / "run").claimed({}):
        pass


def test_a_log_that_is_a_folder_is_refused(tmp_path):
    (tmp_path / "scores.jsonl").mkdir()
    with pytest.raises(StoreError, match="cannot be opened: Is a directory"), RunFolder(tmp_path / "r").claimed({}):
        (tmp_path / "scores.jsonl").rename(tmp_path / "r" / "scores.jsonl")
        RunFolder(tmp_path / "r").scores()


def test_environments_are_noted_once(tmp_path):
    folder = RunFolder(tmp_path)
    with folder.claimed({}):
        folder.add_environments([{"versions": {"python": "2"}}])
        folder.add_environments([{"versions": {"python": "2"}}])
    assert len(folder.read_run()["environments"]) == 2


def test_a_second_writer_is_refused(tmp_path):
    code = (
        "import sys; from pathlib import Path; from dft_eval.records.store import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).claimed({}): pass"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with RunFolder(tmp_path).claimed({}):
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "is in use by another process" in result.stderr
    assert subprocess.run(command, check=False).returncode == 0


def test_infrastructure_errors_are_tried_again(tmp_path):
    folder = RunFolder(tmp_path)
    good, lost = Score("a", 0, True, "ok", 1.0, {"x": "ü"}), Score("b", 0, None, "infra_error", None)
    with folder.claimed({}):
        with folder.scores() as log:
            log.append([good, lost])
        with folder.scores() as log:
            assert list(log.records.values()) == [good]
            log.append([Score("b", 0, False, "wrong", 0.0)])
        with folder.scores() as log:
            assert len(log.records) == 2


def test_a_whole_file_stays_as_it_was_where_it_cannot_be_written(tmp_path):
    import resource

    path = tmp_path / "metrics.json"
    write_whole(path, "before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(DiskFullError):
            write_whole(path, "y" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]
