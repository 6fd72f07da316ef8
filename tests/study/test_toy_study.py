"""A study of the toy world through the real command lines, killed and resumed."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from dft_plugin.demo.data import Recipe
from dft_plugin.demo.toy_study import write_inputs
from tests.conftest import require

pytestmark = [pytest.mark.slow, pytest.mark.llamafactory]

ROOT = Path(__file__).parents[2]
DFT = Path(sys.executable).parent / "dft"
STEPS = {"base": 6, "sft": 3, "dft": 3}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    require(importlib.util.find_spec("llamafactory") is not None, "LLaMA-Factory: run it in that environment")
    folder = tmp_path_factory.mktemp("study")
    write_inputs(folder / "runs/toy", Recipe(mixed_steps=4))
    (folder / "yaml_examples").symlink_to(ROOT / "yaml_examples")
    content = yaml.safe_load((ROOT / "yaml_examples/study/toy.yaml").read_text())
    content["arms"] = {name: arm for name, arm in content["arms"].items() if name in STEPS}
    for name, arm in content["arms"].items():
        arm["overrides"] = arm.get("overrides", {}) | {"max_steps": STEPS[name], "warmup_steps": 1, "logging_steps": 1}
    content["arms"]["broken"] = {**content["arms"]["sft"], "overrides": {"dataset": "not_there"}}
    evaluation = yaml.safe_load((ROOT / "yaml_examples/study/toy/eval.yaml").read_text())
    evaluation["sampling"]["num_repeats"] = 1
    (folder / "eval.yaml").write_text(yaml.safe_dump(evaluation))
    content |= {"seeds": [0], "evaluation": ["eval.yaml"], "probs": content["probs"] | {"samples": 20}}
    (folder / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder


def start(folder, *options):
    command = [str(DFT), "study", "run", "study.yaml", *options]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def kill_at(folder, path):
    """Kill a call of the study as soon as a file is there, which belongs to the middle of a job."""
    process = start(folder)
    while not (folder / "runs/toy/study" / path).exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def test_a_killed_study_ends_with_the_report_and_names_what_failed(study):
    out = study / "runs/toy/study"
    kill_at(study, "train/sft/seed0/trainer_log.jsonl")
    base = (out / "jobs/train/base.json").stat().st_mtime_ns
    kill_at(study, "eval/dft/seed0/toy_addition/generations.jsonl")
    process = start(study)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 1, output  # the broken arm
    assert "ended" in output and "a killed call of this study had left behind" in output
    assert (out / "jobs/train/base.json").stat().st_mtime_ns == base
    report = json.loads((out / "report/report.json").read_text())
    assert {"base", "sft", "dft"} <= {run["arm"] for run in report["results"]["runs"]}
    [dft] = [model for model in report["results"]["models"] if model["arm"] == "dft"]
    assert dft["evaluation_is_resumed"] and not dft["is_resumed"]  # nobody counted the killed call's seconds
    assert "| at least " in (out / "report/report.md").read_text()
    assert "broken" in (out / "report/report.md").read_text()
    failed = json.loads((out / "eval/broken/seed0/arm.json").read_text())["failed"]
    assert "not_there" in failed or "exit code" in failed
    probs = json.loads((out / "probs/probs.json").read_text())
    assert [each["name"] for each in probs["checkpoints"]] == ["base", "sft/seed0", "dft/seed0"]
    records = [json.loads(line) for line in (out / "eval/dft/seed0/toy_addition/scores.jsonl").read_text().splitlines()]
    assert len({record["sample_id"] for record in records}) == len(records) == 500


def test_other_settings_of_a_finished_arm_are_refused(study):
    path = study / "study.yaml"
    content = yaml.safe_load(path.read_text())
    content["arms"]["sft"]["overrides"]["learning_rate"] = 1e-4
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    process = start(study)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 2 and "learning_rate 0.002 -> 0.0001" in output
