"""The `dft` command: help with examples, JSON alone on stdout, exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dft_plugin import OBJECTIVES
from dft_plugin.cli import app

DFT = Path(sys.executable).with_name("dft")
VERBS = sorted(command.name or command.callback.__name__ for command in app.registered_commands)


def dft(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([str(DFT), *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("verb", VERBS)
def test_help_ends_with_an_example(verb):
    result = dft(verb, "--help")
    assert result.returncode == 0
    assert f"Example: dft {verb}" in result.stdout


def test_objectives_as_json():
    result = dft("objectives", "--json")
    rows = json.loads(result.stdout)["objectives"]
    assert [row["name"] for row in rows] == list(OBJECTIVES)
    assert all(row["formula"] and row["source"] for row in rows)


def test_objectives_as_a_table():
    result = dft("objectives")
    assert result.returncode == 0 and all(name in result.stdout for name in OBJECTIVES)


@pytest.mark.parametrize("arguments", [["objectivs"], ["objectives", "--jsn"]])
def test_wrong_usage_is_exit_code_2(arguments):
    result = dft(*arguments)
    assert result.returncode == 2 and result.stderr and not result.stdout


@pytest.mark.slow
@pytest.mark.llamafactory
def test_doctor_passes_here():
    result = dft("doctor", "--json")
    diagnosis = json.loads(result.stdout)
    assert result.returncode == 0 and diagnosis["is_healthy"], result.stderr
    llamafactory = diagnosis["frameworks"]["llamafactory"]
    assert llamafactory["is_tested"] and len(llamafactory["probes"]) == 9
    for name in ("transformers", "trl"):
        entry = diagnosis["frameworks"][name]
        assert entry["is_tested"] and [probe["passed"] for probe in entry["probes"]] == [True]
    assert all(check["passed"] for check in diagnosis["checks"])
    assert [entry["name"] for entry in diagnosis["sandboxes"]] == ["bubblewrap", "landlock"]
    assert any(entry["passed"] for entry in diagnosis["sandboxes"])
