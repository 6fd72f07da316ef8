"""What `dft rollout select` writes, as each framework trains it: right answers, pairs, verdicts, and online rewards."""

import math

import pytest

from dft_eval.rollout.prompt import Prompt
from dft_eval.rollout.selection import Chosen
from dft_eval.rollout.training_files import write_training_files
from dft_eval.tasks.math.grader import close_graders
from tests.integrations import llamafactory_runs, swift_runs, tiny

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rollout")
    chosen = [
        Chosen(Prompt(str(index), ({"role": "user", "content": row["question"]},), ("7",)), (row["answer"],), ("no",))
        for index, row in enumerate(tiny.samples(6))
    ]
    write_training_files(folder, chosen)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.make_text_model(tmp_path_factory.mktemp("model"))


STAGES = {
    "rft": {"stage": "sft", "loss_type": "sft"},
    "offline-dft": {"stage": "sft", "loss_type": "dft"},
    "dpo": {"stage": "dpo"},
    "kto": {"stage": "kto"},
}


@pytest.mark.llamafactory
@pytest.mark.parametrize("name", STAGES)
def test_llamafactory_trains(data, model, tmp_path, name):
    dataset = name if name in ("dpo", "kto") else "rft"
    settings = llamafactory_runs.config(
        model, data / "llamafactory", tmp_path, dataset=dataset, max_steps=2, per_device_train_batch_size=2
    )
    steps = llamafactory_runs.history(llamafactory_runs.run_in_process(settings | STAGES[name]))
    assert len(steps) == 2 and all(math.isfinite(step["loss"]) for step in steps)
    if name == "dpo":
        assert steps[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)  # policy and reference are one model


@pytest.mark.swift
@pytest.mark.parametrize("name", STAGES)
def test_ms_swift_trains(data, model, tmp_path, name):
    dataset = name if name in ("dpo", "kto") else "rft"
    settings = swift_runs.config(
        model, data / "ms_swift" / f"{dataset}.jsonl", tmp_path, max_steps=2, per_device_train_batch_size=2
    )
    extra = {key: value for key, value in STAGES[name].items() if key != "stage"}
    if dataset == "rft":
        log = swift_runs.run_in_process(settings | extra)
    else:
        log = swift_runs.run_in_process(settings | {"rlhf_type": name}, stage="rlhf")
    steps = [entry for entry in log if "loss" in entry]
    assert len(steps) == 2 and all(math.isfinite(step["loss"]) for step in steps)
    if name == "dpo":
        assert steps[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)


@pytest.mark.swift
def test_ms_swift_rewards_online_answers_by_our_graders(data, model, tmp_path):
    """A random model is right by no chance; the reward column says that each answer was graded as wrong."""
    settings = swift_runs.config(
        model,
        data / "ms_swift" / "grpo.jsonl",
        tmp_path,
        max_steps=1,
        rlhf_type="grpo",
        external_plugins=str(swift_runs.ROOT / "plugins" / "ms_swift_reward.py"),
        reward_funcs="dft_math",
        num_generations=2,
        per_device_train_batch_size=2,
        max_completion_length=16,
        truncation_strategy="delete",
    )
    log = swift_runs.run_in_process(settings, stage="rlhf")
    close_graders()
    (step,) = [entry for entry in log if "reward" in entry]
    assert step["rewards/DftMath/mean"] == step["reward"] == 0.0


@pytest.mark.swift
def test_ms_swift_runs_ppo_with_a_reward_model_of_the_pairs(data, model, tmp_path):
    pairs = swift_runs.config(
        model, data / "ms_swift" / "dpo.jsonl", tmp_path / "rm", max_steps=1, rlhf_type="rm", save_strategy="steps"
    )
    swift_runs.run_in_process(pairs | {"per_device_train_batch_size": 2, "save_only_model": True}, stage="rlhf")
    settings = swift_runs.config(
        model,
        data / "ms_swift" / "grpo.jsonl",
        tmp_path / "ppo",
        rlhf_type="ppo",
        reward_model=str(tmp_path / "rm" / "checkpoint-1"),
        num_ppo_epochs=1,
        num_train_epochs=1,
        max_steps=-1,
        max_completion_length=8,
        per_device_train_batch_size=2,
    )
    log = swift_runs.run_in_process(settings, stage="rlhf")
    steps = [entry for entry in log if "objective/scores" in entry]
    assert steps and all(math.isfinite(step[f"{name}_avg"]) for step in steps for name in ("loss/policy", "loss/value"))
