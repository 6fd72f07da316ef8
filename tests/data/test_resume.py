"""A build that is killed at any moment and started again ends in the same files."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dft_plugin.data import build as build_module
from dft_plugin.data import sources
from dft_plugin.errors import ConflictError
from tests.data.builds import build_from
from tests.data.upstream import ROWS, write_jsonl, write_parquet, write_upstream

ROOT = Path(__file__).parents[2]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("recipe", ["openr1-math-220k", "ultrafeedback-best/top", "numinamath-cot/random"])
def test_interrupted_after_every_batch(tmp_path, monkeypatch, recipe):
    monkeypatch.setattr(sources, "BATCH_ROWS", 7)
    name = recipe.split("/")[0]
    rows = ROWS[name](33)
    files = [
        write_parquet(tmp_path / "b.parquet", rows[:20], row_group_size=9),
        write_jsonl(tmp_path / "a.jsonl", [*rows[20:], rows[4]]),
    ]
    num_rows = None if name.startswith("open") else 11
    whole = build_from(recipe, tmp_path / "whole", *files, rows=num_rows)
    assert whole["rows"]["noted"]["duplicate_question"] == 1

    commit = build_module.WorkFolder.commit
    num_interruptions = 0

    def stop_after(self, state):
        commit(self, state)
        self.append("notes.jsonl", b"half a li")  # as if killed amid the next batch
        self._files["notes.jsonl"].flush()
        raise KeyboardInterrupt

    monkeypatch.setattr(build_module.WorkFolder, "commit", stop_after)
    while num_interruptions < 100:
        try:
            build_from(recipe, tmp_path / "out", *files, rows=num_rows)
            break
        except KeyboardInterrupt:
            num_interruptions += 1
    assert num_interruptions == 6  # three batches, two, and the end
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_first_rows_stop_within_a_batch_and_are_resumed(tmp_path, monkeypatch):
    file = write_upstream(tmp_path, "gsm8k", 50)
    whole = build_from("gsm8k", tmp_path / "whole", file, rows=20)
    assert whole["rows"] == {"read": 20, "passed": 20, "noted": {}, "written": 20}
    monkeypatch.setattr(sources, "BATCH_ROWS", 7)
    assert build_from("gsm8k", tmp_path / "out", file, rows=20) == whole


def test_two_builds_in_one_folder_are_refused(tmp_path, monkeypatch):
    file = write_upstream(tmp_path, "gsm8k", 5)
    read = build_module._Run.read

    def build_again(self):
        with pytest.raises(ConflictError, match="another build is under way"):
            build_from("gsm8k", tmp_path / "out", file)
        read(self)

    monkeypatch.setattr(build_module._Run, "read", build_again)
    assert build_from("gsm8k", tmp_path / "out", file)["rows"]["written"] == 5


@pytest.mark.slow
def test_killed_at_four_moments(tmp_path):
    rows = ROWS["numinamath-cot"](20_000)
    file = write_parquet(tmp_path / "a.parquet", rows, row_group_size=3000)
    build_from("numinamath-cot/random", tmp_path / "whole", file, rows=9000, format="llamafactory")
    names = [".build/examples.jsonl"] * 3 + ["numinamath-cot-random.jsonl"]
    result = subprocess.run(
        [sys.executable, "-m", "tests.data.killed_builds", str(file), str(tmp_path / "out"), *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["exit_code"] == 0, (tmp_path / "out.log").read_text()[-3000:]
    recorded = [after for _, after in found["kills"][:3]]
    assert recorded == sorted(set(recorded)) and recorded[0] > 0 and recorded[-1] < 20_000
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
