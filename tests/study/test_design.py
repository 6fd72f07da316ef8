"""Reading a study, and the jobs that follow from it."""

import json
from pathlib import Path

import pytest
import yaml

from dft_eval.errors import EvalError
from dft_eval.report.arms import find_all
from dft_eval.run.config import load_config
from dft_plugin.errors import ConfigError, ConflictError, MissingPrerequisiteError
from dft_plugin.study.design import load_study
from dft_plugin.study.plan import describe_runs, make_plan
from dft_plugin.study.run import _recorded_failures, describe_jobs, run_one

STUDIES = Path(__file__).parents[2] / "yaml_examples" / "study"
FULL = {"finetuning_type": "full", "dataset_dir": "data", "dataset": "rows", "learning_rate": 1e-5}
EVALUATION = {"tasks": ["toy_facts"], "interface": "chat", "backend": {"kind": "hf", "device": "cpu"}, "out": "o"}
ARM = {"framework": "llamafactory", "train": "full.yaml"}


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.jsonl"}}))
    (tmp_path / "data/rows.jsonl").write_text("{}\n")
    for name, extra in (("full", {}), ("lora", {"finetuning_type": "lora", "template": "qwen"})):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(FULL | extra))
    (tmp_path / "eval.yaml").write_text(yaml.safe_dump(EVALUATION))

    def write(**content):
        path = tmp_path / "study.yaml"
        given = {"model": "org/model", "out": "out", "evaluation": ["eval.yaml"], "seeds": [0, 1]}
        path.write_text(yaml.safe_dump(given | content, sort_keys=False))
        return load_study(path)

    return write


def names(plan):
    return [job.name for job in plan.jobs]


def test_every_arm_and_seed_is_trained_and_evaluated(write):
    plan = make_plan(write(arms={"base": {}, "sft": ARM, "dft": {**ARM, "overrides": {"loss_type": "dft"}}}))
    assert names(plan) == [
        *("train/sft/seed0", "train/sft/seed1", "train/dft/seed0", "train/dft/seed1"),
        *("eval/base/eval", "eval/sft/seed0/eval", "eval/sft/seed1/eval", "eval/dft/seed0/eval", "eval/dft/seed1/eval"),
        "report",
    ]
    keys = plan.job("train/dft/seed1").keys
    assert keys == FULL | {
        "loss_type": "dft",
        "model_name_or_path": "org/model",
        "output_dir": "out/train/dft/seed1",
        "seed": 1,
    }
    assert plan.job("eval/base/eval").command()[3:] == ["eval.yaml", "--model", "org/model", "--out", "out/eval/base"]


def test_adapters_are_merged_before_they_are_evaluated(write):
    plan = make_plan(write(arms={"sft": {**ARM, "train": "lora.yaml"}}, seeds=[3]))
    assert names(plan) == ["train/sft/seed3", "merge/sft/seed3", "eval/sft/seed3/eval", "report"]
    assert [[job.name for job in stage] for stage in plan.stages()] == [[name] for name in names(plan)]
    command = plan.job("merge/sft/seed3").command()
    assert "adapter_name_or_path=out/train/sft/seed3" in command and "export_dir=out/merge/sft/seed3" in command
    assert "out/merge/sft/seed3" in plan.job("eval/sft/seed3/eval").command()


def test_an_arm_starts_from_another_with_the_same_seed_or_from_its_only_one(write):
    arms = {
        "dft": {**ARM, "start_from": "sft"},
        "sft": {**ARM, "start_from": "base"},
        "base": {**ARM, "seeds": [7]},
    }
    plan = make_plan(write(arms=arms))
    assert names(plan)[:3] == ["train/base", "train/sft/seed0", "train/sft/seed1"]
    assert plan.job("train/dft/seed1").after == ("train/sft/seed1",)
    assert plan.job("train/sft/seed1").after == ("train/base",)
    assert "model_hash" in plan.job("train/base").settings()


def test_a_grid_is_an_arm_for_each_combination(write):
    grid = {"learning_rate": [1e-5, 5e-5], "per_device_train_batch_size": [8, 16]}
    plan = make_plan(write(arms={"sft": {**ARM, "grid": grid}}, seeds=[0]))
    trained = [job for job in plan.jobs if job.kind == "train"]
    assert trained[0].name == "train/sft+learning_rate=1e-05+per_device_train_batch_size=8/seed0"
    assert [(job.keys["learning_rate"], job.keys["per_device_train_batch_size"]) for job in trained] == [
        *((1e-5, 8), (1e-5, 16), (5e-5, 8), (5e-5, 16))
    ]
    describe_runs(plan, {})
    abouts = find_all([plan.runs[0].evaluations[0].out.parents[1]])
    assert {about.grid_of for about in abouts} == {"sft"}
    values = [tuple(about.content["grid"]["values"].values()) for about in abouts]
    assert sorted(values) == [(1e-5, 8), (1e-5, 16), (5e-5, 8), (5e-5, 16)]


def test_settings_change_with_everything_that_decides_the_result(write, tmp_path):
    job = make_plan(write(arms={"sft": ARM})).job("train/sft/seed0")
    before = job.fingerprint({})
    assert make_plan(write(arms={"sft": ARM, "dft": ARM})).job("train/sft/seed0").fingerprint({}) == before
    (tmp_path / "data/rows.jsonl").write_text('{"other": 1}\n')
    assert make_plan(write(arms={"sft": ARM})).job("train/sft/seed0").fingerprint({}) != before
    moved = make_plan(write(arms={"sft": ARM}, out="elsewhere")).job("train/sft/seed0")
    assert moved.settings() == make_plan(write(arms={"sft": ARM})).job("train/sft/seed0").settings()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"arms": {}}, "arms"),
        ({"arms": {"sft": {**ARM, "loss": "dft"}}}, "loss"),
        ({"arms": {"a b": ARM}}, "arms"),
        ({"arms": {"sft": {"framework": "llamafactory"}}}, "`framework` and `train` go together"),
        ({"arms": {"base": {"overrides": {"seed": 1}}}}, "not trained"),
        ({"arms": {"sft": {**ARM, "overrides": {"output_dir": "x"}}}}, "output_dir: the study sets it"),
        ({"arms": {"sft": {**ARM, "grid": {"seed": [1, 2]}}}}, "seed: the study sets it"),
        ({"arms": {"sft": ARM}, "seeds": [1, 1]}, "one of them twice"),
        ({"arms": {"sft": ARM}, "baseline": "base"}, "the arms are sft"),
        ({"arms": {"sft": ARM}, "seeds": []}, "seeds"),
        ({"arms": {"sft": ARM}, "evaluation": ["a/eval.yaml", "b/eval.yaml"]}, "two files of one name"),
    ],
)
def test_what_cannot_be_carried_out_is_refused(write, content, said):
    with pytest.raises(ConfigError, match=said):
        write(**content)


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        ({"a": {**ARM, "start_from": "b"}, "b": {**ARM, "start_from": "a"}}, "start from each other"),
        ({"a": {**ARM, "start_from": "nowhere"}}, "not there"),
        ({"a": {**ARM, "seeds": [5, 6]}, "b": {**ARM, "start_from": "a"}}, "no run with that seed"),
        ({"a": {**ARM, "train": "absent.yaml"}}, "absent.yaml cannot be read"),
    ],
)
def test_arms_that_do_not_fit_are_refused(write, arms, said):
    with pytest.raises(ConfigError, match=said):
        make_plan(write(arms=arms))


def test_the_job_array_names_stages(write, tmp_path):
    study = write(arms={"base": {}, "sft": ARM}, seeds=[0])
    rows = [line.split("\t") for line in describe_jobs(study, tmp_path / "study.yaml")]
    assert [(stage, job) for stage, job, _ in rows] == [
        *(("0", "train/sft/seed0"), ("0", "eval/base/eval"), ("1", "eval/sft/seed0/eval"), ("2", "report"))
    ]
    assert all(command.endswith(f"--out out --job {job}") for _, job, command in rows)


def test_a_job_alone_needs_those_before_it(write):
    study = write(arms={"sft": ARM}, seeds=[0])
    with pytest.raises(ConfigError, match="no such job"):
        run_one(study, "train/dft/seed0")
    with pytest.raises(Exception, match="train/sft/seed0 has to be done first"):
        run_one(study, "eval/sft/seed0/eval")


def test_two_processes_do_not_run_one_study(write, tmp_path):
    from filelock import FileLock
    from rich.console import Console

    from dft_plugin.study.run import run_study

    study = write(arms={"sft": ARM})
    study.out.mkdir()
    with FileLock(study.out / ".lock"), pytest.raises(ConflictError, match="being run by another process"):
        run_study(study, Console(quiet=True))


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.name)
def test_the_example_studies_are_laid_out(path, monkeypatch):
    monkeypatch.chdir(STUDIES.parents[1])
    study = load_study(path)
    plan = make_plan(study)
    assert all(job.after == () or set(job.after) <= {other.name for other in plan.jobs} for job in plan.jobs)
    assert all(config.is_file() and load_config(config) for config in study.evaluation)
    assert str(path.relative_to(STUDIES.parents[1])) in path.read_text() or "make study" in path.read_text()


def test_what_is_missing_is_found_before_training(write, tmp_path):
    from rich.console import Console

    from dft_plugin.study.run import run_study

    for changed, said in (
        ({"tasks": ["toy_fact"]}, "toy_fact"),
        ({"interface": "completion"}, "interface: completion"),
    ):
        (tmp_path / "eval.yaml").write_text(yaml.safe_dump(EVALUATION | changed))
        with pytest.raises(EvalError, match=said):
            run_study(write(arms={"base": {}}), Console(quiet=True))
    study = write(arms={"sft": {**ARM, "framework": "ms_swift"}}, swift_python="nowhere/python", evaluation=[])
    with pytest.raises(MissingPrerequisiteError, match="no swift command beside nowhere/python"):
        run_study(study, Console(quiet=True))
    assert not (tmp_path / "out").exists()


def test_an_interrupted_run_goes_on_from_its_last_whole_checkpoint(write):
    job = make_plan(write(arms={"sft": ARM})).job("train/sft/seed0")
    for step, files in ((5, ("trainer_state.json", "optimizer.pt")), (10, ("model.safetensors", "optimizer.pt"))):
        (job.output / f"checkpoint-{step}").mkdir(parents=True)
        for name in files:
            (job.output / f"checkpoint-{step}" / name).touch()
    job.record_file.parent.mkdir(parents=True)
    job.record_file.with_suffix(".begun").write_text("mine")
    assert job.begin("mine")
    assert yaml.safe_load(job.file.read_text())["resume_from_checkpoint"] == "out/train/sft/seed0/checkpoint-5"
    assert not job.begin("of other settings")
    assert not job.output.exists() and "resume_from_checkpoint" not in yaml.safe_load(job.file.read_text())


def test_a_failure_of_a_job_that_is_done_since_is_over(write):
    plan = make_plan(write(arms={"sft": ARM}, seeds=[0]))
    job = plan.job("train/sft/seed0")
    job.record_file.parent.mkdir(parents=True)
    job.record_file.with_suffix(".failed.json").write_text('{"reason": "no room"}')
    assert _recorded_failures(plan) == {"train/sft/seed0": "no room"}
    job.record_file.write_text("{}")
    assert _recorded_failures(plan) == {}
