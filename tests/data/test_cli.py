"""`dft data` as a person runs it."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dft_plugin.cli import main
from tests.data.upstream import write_upstream

DFT = Path(sys.executable).with_name("dft")


def dft(*arguments):
    return subprocess.run([str(DFT), "data", *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("verb", ["list", "build"])
def test_help_ends_with_an_example(verb):
    assert f"Example: dft data {verb}" in dft(verb, "--help").stdout


def test_list():
    recipes = json.loads(dft("list", "--json").stdout)["recipes"]
    assert {"name", "about", "variants", "source", "revision", "has_images"} == set(recipes[0])
    text = dft("list").stdout
    assert all(f"{row['name']}/{variant}" in text for row in recipes for variant in row["variants"])


def test_build(tmp_path):
    file = write_upstream(tmp_path, "openr1-math-220k", 9)
    out = tmp_path / "out"
    result = dft("build", "openr1-math-220k", "--format", "llamafactory", "--from", file, "--out", out)
    assert result.returncode == 0, result.stderr
    assert "6 rows of 6 that passed and 9 read" in result.stdout and "no_item" in result.stdout
    assert f"dataset: openr1-math-220k, dataset_dir: {out}" in result.stdout
    assert "|" not in result.stderr  # no progress bar where nobody looks


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["gsm8"], 2, "did you mean 'gsm8k'"),
        (["gsm8k", "--from", "none.jsonl"], 3, "is not there"),
        (["gsm8k", "--seed", "1"], 2, "draws no rows"),
        (["gsm8k", "--revision", "main"], 2, "a branch may change"),
        (["luffy-46k"], 2, "no commit is pinned"),
        (["wethink"], 2, "--image-dir"),
    ],
)
def test_wrong_usage(tmp_path, monkeypatch, capsys, arguments, code, message):
    command = ["dft", "data", "build", *arguments, "--format", "ms_swift", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.setattr(signal, "signal", lambda *handler: None)
    with pytest.raises(SystemExit) as end:
        main()
    found = capsys.readouterr()
    assert end.value.code == code and message in found.err and not found.out
    assert not (tmp_path / "out").exists()
