"""LLaMA-Factory in one process: parity with its own losses, invariance, logs, records."""

import json
import math

import pytest

from tests.integrations import tiny
from tests.integrations.llamafactory_runs import config, history, run_in_process

pytestmark = [
    pytest.mark.llamafactory,
    pytest.mark.slow,
    # The framework's own imports and calls warn about things we do not decide.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("llamafactory")
    return tiny.make_text_model(root / "model"), tiny.write_llamafactory_data(root / "data"), root


@pytest.fixture(scope="module")
def train(inputs):
    """Train once per distinct configuration; the output folder is shared by the tests that compare it."""
    model, data, root = inputs
    done = {}

    def run(**overrides):
        key = json.dumps(overrides, sort_keys=True)
        if key not in done:
            done[key] = run_in_process(config(model, data, root / f"run{len(done)}", **overrides))
        return done[key]

    return run


def assert_same_training(ours, theirs, *, rel=1e-5):
    ours, theirs = history(ours), history(theirs)
    assert len(ours) == len(theirs) >= 3
    for step, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        for key in ("loss", "grad_norm"):
            assert a[key] == pytest.approx(b[key], rel=rel), f"{key} at step {step + 1}"


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize(
    ("ours", "native"),
    [({"loss_type": "dft"}, {"use_dft_loss": True}), ({"loss_type": "sft"}, {})],
    ids=["dft", "sft"],
)
@pytest.mark.parametrize("fused", [True, False])
def test_equals_the_native_loss(train, ours, native, accumulation, fused):
    ours = {**ours, "loss_config": {"fused": fused}}
    batches = {"gradient_accumulation_steps": accumulation, "per_device_train_batch_size": 8 // accumulation}
    assert_same_training(train(**ours, **batches), train(**native, **batches))


def test_equals_the_native_loss_with_lora(train):
    lora = {"finetuning_type": "lora", "lora_rank": 4, "lora_target": "all"}
    assert_same_training(train(loss_type="dft", **lora), train(use_dft_loss=True, **lora))


@pytest.mark.parametrize("loss_type", ["sft", "dft"])
def test_micro_batches_of_one_global_batch_agree(train, loss_type):
    splits = [
        train(loss_type=loss_type, per_device_train_batch_size=8 // n, gradient_accumulation_steps=n) for n in (1, 2, 8)
    ]
    for split in splits[1:]:
        assert_same_training(split, splits[0])
        for key in ("nll", "one_minus_p", "objective", "effective_tokens"):
            assert history(split)[0][key] == pytest.approx(history(splits[0])[0][key], rel=1e-5)


def test_objectives_differ(train):
    batches = {"gradient_accumulation_steps": 1, "per_device_train_batch_size": 8}
    sft, dft = (history(train(loss_type=name, **batches))[0] for name in ("sft", "dft"))
    assert dft["loss"] < 0.5 * sft["loss"] and dft["nll"] == pytest.approx(sft["nll"], rel=1e-6)
    assert sft["nll"] == pytest.approx(sft["loss"], rel=1e-5) and dft["objective"] == pytest.approx(
        dft["loss"], rel=1e-5
    )
    assert sft["effective_tokens"] == 1.0 and 0 < dft["effective_tokens"] < 1 and 0 < dft["one_minus_p"] < 1


def test_eval_loss_is_plain_cross_entropy_in_every_arm(train):
    evaluation = {"val_size": 0.25, "eval_strategy": "steps", "eval_steps": 1, "learning_rate": 0.0, "do_eval": True}
    plain, dft = train(**evaluation), train(loss_type="dft", **evaluation)
    expected, found = history(plain, "eval_loss")[0], history(dft, "eval_loss")[0]
    assert found["eval_loss"] == pytest.approx(expected["eval_loss"], rel=1e-6)
    assert found["eval_objective"] < 0.5 * found["eval_nll"]
    results = json.loads((dft / "eval_results.json").read_text())
    assert {"eval_nll", "eval_one_minus_p", "eval_objective"} <= set(results)


def test_compute_accuracy_still_gets_logits(train):
    evaluation = {"val_size": 0.25, "eval_strategy": "steps", "eval_steps": 3, "compute_accuracy": True}
    folder = train(loss_type="dft", **evaluation)
    assert math.isfinite(history(folder, "eval_accuracy")[0]["eval_accuracy"])


def test_pretraining_stage(train):
    stage = {"stage": "pt", "dataset": "toy_pt", "cutoff_len": 32, "per_device_train_batch_size": 2}
    assert_same_training(train(loss_type="sft", **stage), train(**stage))
    # Rows are packed full, and the framework counts the first token of each row, which nothing predicts.
    for step in history(train(loss_type="dft", **stage)):
        assert step["loss"] == pytest.approx(step["objective"] * 31 / 32, rel=1e-5)
        assert step["objective"] < step["nll"]


def test_the_run_states_its_loss(train):
    folder = train(loss_type="dft", loss_config={}, seed=7)
    record = json.loads((folder / "dft_run.json").read_text())
    assert record["loss_type"] == "dft" and record["framework"] == "llamafactory" and record["stage"] == "sft"
    card = (folder / "README.md").read_text()
    assert card.count("## Training objective") == 1 and '`"dft"`' in card


def test_without_loss_type_nothing_is_added(train):
    folder = train()
    assert not (folder / "dft_run.json").exists()
    assert "Training objective" not in (folder / "README.md").read_text()
    assert set(history(folder)[0]) == {"loss", "grad_norm", "learning_rate", "epoch", "step"}


def tokenized(inputs, *, masked):
    """LLaMA-Factory's own tokenised dataset of four samples, some with every label masked."""
    from datasets import load_from_disk

    model, data, root = inputs
    folder = root / f"tokenized{''.join(map(str, masked))}"
    if not folder.exists():
        base = root / "tokenized_base"
        if not base.exists():
            settings = {"tokenized_path": str(base), "max_samples": 4, "max_steps": 1}
            run_in_process(config(model, data, root / "tokenize", **settings))
        rows = load_from_disk(str(base))
        masked_rows = rows["train"].map(
            lambda row, index: {"labels": [-100] * len(row["labels"]) if index in masked else row["labels"]},
            with_indices=True,
        )
        rows["train"] = masked_rows
        rows.save_to_disk(str(folder))
    return str(folder)


@pytest.mark.parametrize("loss_type", ["sft", "dft"])
def test_an_all_masked_micro_batch_adds_nothing(train, inputs, loss_type):
    single = {"loss_type": loss_type, "per_device_train_batch_size": 1, "max_steps": 1}
    mixed = train(tokenized_path=tokenized(inputs, masked=(1,)), gradient_accumulation_steps=2, **single)
    alone = train(tokenized_path=tokenized(inputs, masked=(1,)), gradient_accumulation_steps=1, **single)
    for key in ("loss", "grad_norm", "nll"):
        assert history(mixed)[0][key] == pytest.approx(history(alone)[0][key], rel=1e-6)


def test_a_step_with_every_label_masked_trains_on(train, inputs):
    folder = train(
        loss_type="dft",
        per_device_train_batch_size=1,
        max_steps=3,
        tokenized_path=tokenized(inputs, masked=(0,)),
    )
    steps = history(folder)
    assert steps[0]["loss"] == 0 and steps[0]["grad_norm"] == 0 and "nll" not in steps[0]
    assert steps[1]["loss"] > 0 and math.isfinite(steps[1]["grad_norm"])


def test_resuming_with_another_loss_is_refused(train, inputs):
    from dft_plugin.errors import ConflictError

    model, data, root = inputs
    settings = config(model, data, root / "resume", save_strategy="steps", save_steps=2, loss_type="dft")
    run_in_process(settings)
    again = {**settings, "max_steps": 4, "overwrite_output_dir": False}
    with pytest.raises(ConflictError, match="loss_type dft -> sft.*model_name_or_path"):
        run_in_process({**again, "loss_type": "sft"})
    plain = {key: value for key, value in again.items() if key != "loss_type"}
    for resumed in (plain, {**plain, "overwrite_output_dir": True, "resume_from_checkpoint": True}):
        with pytest.raises(ConflictError, match="began with loss_type dft, and loss_type is not set now"):
            run_in_process(resumed)
    run_in_process(again)
    assert history(root / "resume")[-1]["step"] == 4


def test_a_second_phase_starts_from_the_weights_and_not_from_the_optimiser(inputs):
    """Plain training, then DFT: refused as a resumed run, right from the checkpoint's weights."""
    from dft_plugin.errors import ConflictError

    model, data, root = inputs
    first = config(model, data, root / "phase1", save_strategy="steps", save_steps=2, max_steps=2)
    checkpoint = run_in_process(first) / "checkpoint-2"
    second = {**first, "max_steps": 4, "loss_type": "dft", "save_strategy": "no"}
    with pytest.raises(ConflictError, match="trained without loss_type.*model_name_or_path"):
        run_in_process({**second, "resume_from_checkpoint": str(checkpoint)})
    sft = run_in_process({**second, "loss_type": "sft", "resume_from_checkpoint": str(checkpoint)})
    assert [step["step"] for step in history(sft)] == [1, 2, 3, 4], "plain cross-entropy is what sft goes on with"
    weights = {**second, "model_name_or_path": str(checkpoint), "learning_rate": 0.0}
    found = history(run_in_process({**weights, "output_dir": str(root / "phase2")}))
    native = {key: value for key, value in weights.items() if key != "loss_type"} | {"use_dft_loss": True}
    truth = history(run_in_process({**native, "output_dir": str(root / "native2")}))
    assert [step["loss"] for step in found] == pytest.approx([step["loss"] for step in truth], rel=1e-6)


@pytest.mark.parametrize(("fused", "message"), [("auto", "never took it"), (False, "never computed it")])
def test_a_replaced_loss_is_noticed_in_the_first_step(inputs, fused, message):
    from llamafactory.train.sft import workflow
    from transformers import TrainerCallback

    from dft_plugin.errors import LossNotLiveError

    trainers = []

    class Thief(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            trainers[0].compute_loss_func = None

    original = workflow.CustomSeq2SeqTrainer.__init__

    def remember(self, *args, **kwargs):
        original(self, *args, **kwargs)
        trainers.append(self)

    model, data, root = inputs
    settings = config(model, data, root / "thief", loss_type="dft", loss_config={"fused": fused})
    from accelerate.state import AcceleratorState
    from llamafactory.train.tuner import run_exp

    AcceleratorState._reset_state(True)
    workflow.CustomSeq2SeqTrainer.__init__ = remember
    try:
        with pytest.raises(LossNotLiveError, match=message):
            run_exp(settings, callbacks=[Thief()])
    finally:
        workflow.CustomSeq2SeqTrainer.__init__ = original
