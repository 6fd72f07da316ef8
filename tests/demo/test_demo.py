"""The demo end to end through the real command lines, with very few steps."""

import dataclasses
import importlib.util
import io
import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from dft_plugin.demo.data import Recipe, write_plan
from dft_plugin.demo.run import DemoSettings, run_demo, train_arms
from dft_plugin.errors import ConfigError, DftError, MissingPrerequisiteError
from dft_plugin.study.frameworks import find_swift
from tests.conftest import require

pytestmark = [pytest.mark.slow, pytest.mark.llamafactory]

RECIPE = Recipe(
    base_steps=6,
    num_old_facts=20,
    num_demonstrations=96,
    addition_steps=4,
    num_new_facts=8,
    fact_steps=3,
    mixed_steps=3,
    num_held_out=12,
    num_samples=2,
)


ARMS = ("base", "sft", "dft", "facts_sft", "facts_dft", "mixed_sft", "mixed_dft", "mixed_route")


@pytest.fixture(autouse=True)
def _llamafactory():
    require(importlib.util.find_spec("llamafactory") is not None, "LLaMA-Factory: run it in that environment")


def run(settings):
    text = io.StringIO()
    return run_demo(settings, Console(file=text, width=120)), text.getvalue()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One demo with the arms of both frameworks."""
    require(importlib.util.find_spec("llamafactory") is not None, "LLaMA-Factory: run it in that environment")
    require(find_swift(None) is not None, "ms-swift in .venv-swift, beside this environment")
    settings = DemoSettings(out=tmp_path_factory.mktemp("demo") / "out", seed=5, recipe=RECIPE)
    return settings, *run(settings)


@pytest.fixture(scope="module")
def without_swift(whole, tmp_path_factory):
    """The same arms where ms-swift cannot be found: taken over, not trained again."""
    settings = dataclasses.replace(whole[0], out=tmp_path_factory.mktemp("without") / "out")
    shutil.copytree(whole[0].out, settings.out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dft_plugin.demo.run.find_swift", lambda python: None)
        return settings, *run(settings)


def test_every_arm_was_trained_and_scored(without_swift):
    settings, result, _ = without_swift
    assert set(result.results["arms"]) == {f"seed5/{arm}" for arm in ARMS}
    scores = result.results["seeds"][0]["scores"]
    assert len(scores) == 24
    assert {score["num_answers"] for score in scores if score["task"] == "addition"} == {12, 24}
    state = json.loads((settings.out / "train/seed5/dft/dft_run.json").read_text())
    assert state["loss_type"] == "dft"


def test_a_skipped_arm_is_named(without_swift):
    _, result, text = without_swift
    for said in (result.report_md.read_text(), result.report_html.read_text()):
        assert "Skipped: the arm “DFT trained by ms-swift”" in said
        assert "One training seed" in said
    assert "ms-swift was not found" in text
    assert result.results["seeds"][0]["framework_agreement"] is None


def test_the_report_shows_no_path_of_this_machine(without_swift):
    settings, result, _ = without_swift
    for path in (result.report_json, result.report_md, result.report_html):
        assert str(settings.out) not in path.read_text()
        assert str(Path.home()) + "/" not in path.read_text()


def test_a_second_call_resumes(whole, without_swift):
    (settings, first, _), (copy, second, _) = whole, without_swift

    def logs(out):
        return {path.relative_to(out): path.stat().st_mtime_ns for path in out.glob("jobs/train/seed5/*.log")}

    assert logs(copy.out) == logs(settings.out) and len(logs(copy.out)) == len(ARMS) + 1
    before, after = first.results["seeds"][0], second.results["seeds"][0]
    assert [score for score in before["scores"] if score in after["scores"]] == after["scores"]


def test_other_settings_are_refused(without_swift):
    settings, *_ = without_swift
    with pytest.raises(ConfigError, match="seed 5 -> 6"):
        run(dataclasses.replace(settings, seed=6))


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("do not overwrite")
    with pytest.raises(ConfigError, match="not the folder of a demo"):
        run(DemoSettings(out=tmp_path, recipe=RECIPE))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_missing_interpreter_is_named(tmp_path):
    with pytest.raises(MissingPrerequisiteError, match="no swift command beside"):
        run(DemoSettings(out=tmp_path / "out", swift_python=tmp_path / "python", recipe=RECIPE))
    assert not (tmp_path / "out").exists()


def test_a_failing_arm_shows_the_end_of_its_log(tmp_path):
    plan = write_plan(0, tmp_path, RECIPE, with_swift=False)  # no initial model was written
    with pytest.raises(DftError, match="train/seed0/base ended with exit code") as caught:
        train_arms(list(plan.arms), tmp_path, DemoSettings(out=tmp_path), Console(file=io.StringIO()))
    assert str(tmp_path / "jobs/train/seed0/base.log") in str(caught.value)
    assert "llamafactory-cli train" in str(caught.value)
    assert not (tmp_path / "jobs/train/seed0/base.json").exists()


def test_both_frameworks_train_the_same(whole):
    _, result, _ = whole
    agreement = result.results["seeds"][0]["framework_agreement"]
    assert agreement["num_steps"] == RECIPE.addition_steps
    assert agreement["same_first_example"] is True
    assert agreement["max_relative_difference"] < 1e-5
