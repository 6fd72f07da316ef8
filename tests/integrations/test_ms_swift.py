"""ms-swift in one process: parity with its own losses, invariance, logs, records."""

import json
import math

import pytest

from tests.integrations import tiny
from tests.integrations.swift_runs import arguments, config, logged, run_in_process, write_data

pytestmark = [
    pytest.mark.swift,
    pytest.mark.slow,
    # The framework's own imports and calls warn about things we do not decide.
    pytest.mark.filterwarnings("ignore"),
]

METRICS = {"nll", "one_minus_p", "objective", "effective_tokens"}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("swift")
    return tiny.make_text_model(root / "model"), write_data(root / "data"), root


@pytest.fixture(scope="module")
def train(inputs):
    """Train once per distinct configuration; the steps and the folder are shared by the tests that compare them."""
    tiny_model, data, root = inputs
    done = {}

    def run(*, stage="sft", dataset="toy", model=tiny_model, **overrides):
        key = json.dumps([stage, dataset, str(model), overrides], sort_keys=True)
        if key not in done:
            folder = root / f"run{len(done)}"
            settings = config(model, data / f"{dataset}.jsonl", folder, **overrides)
            done[key] = run_in_process(settings, stage=stage), folder
        return done[key]

    return run


def steps(run, key="loss"):
    return [entry for entry in run[0] if key in entry]


def assert_same_training(ours, theirs, *, rel=1e-5, keys=("loss", "grad_norm", "token_acc")):
    ours, theirs = steps(ours), steps(theirs)
    assert len(ours) == len(theirs) >= 3
    for step, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        for key in keys:
            assert a[key] == pytest.approx(b[key], rel=rel), f"{key} at step {step + 1}"


NATIVE = [({"loss_type": "dft"}, {"enable_dft_loss": True}), ({"loss_type": "sft"}, {})]


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize(("ours", "native"), NATIVE, ids=["dft", "sft"])
def test_equals_the_native_loss(train, ours, native, accumulation):
    batches = {"gradient_accumulation_steps": accumulation, "per_device_train_batch_size": 8 // accumulation}
    assert_same_training(train(**ours, **batches), train(**native, **batches))


SCALED = {"dataset": "react", "loss_scale": "react"}
LORA = {"tuner_type": "lora", "lora_rank": 4, "target_modules": "all-linear"}
PRETRAINING = {"dataset": "pt", "stage": "pt"}


@pytest.mark.parametrize(
    "options",
    [
        LORA,
        SCALED,
        {**SCALED, "per_device_train_batch_size": 1, "enable_channel_loss": True},
        {"per_device_train_batch_size": 1},  # logits_to_keep as a mask
        {"use_logits_to_keep": False},
        {"gradient_checkpointing": False},
        PRETRAINING,
    ],
    ids=["lora", "loss_scale", "channel_loss", "mask", "all_logits", "no_checkpointing", "pt"],
)
def test_equals_the_native_switch_with(train, options):
    assert_same_training(train(loss_type="dft", **options), train(enable_dft_loss=True, **options))


def test_equals_the_native_switch_in_bfloat16(train, inputs):
    """The two paths round differently; in a model of ordinary width and scale that averages out."""
    model = tiny.make_text_model(inputs[2] / "wide", hidden_size=128, initializer_range=0.05)
    options = {"model": model, "torch_dtype": "bfloat16", "bf16": True, "per_device_train_batch_size": 16}
    options = {**options, "learning_rate": 1e-4}
    assert_same_training(
        train(loss_type="dft", **options), train(enable_dft_loss=True, **options), rel=1e-3, keys=("loss", "grad_norm")
    )


@pytest.mark.parametrize("options", [LORA, SCALED, PRETRAINING], ids=["lora", "loss_scale", "pt"])
def test_sft_equals_plain_training_with(train, options):
    assert_same_training(train(loss_type="sft", **options), train(**options))


@pytest.mark.parametrize("feature", ["padding_free", "packing"])
def test_equals_the_native_loss_on_packed_rows(train, monkeypatch, feature):
    from swift.arguments import SftArguments

    # swift insists on flash attention, which this machine has not; eager attention reads the same position ids
    monkeypatch.setattr(SftArguments, "_check_padding_free", lambda args: setattr(args, "padding_free", True))
    options = {feature: True, "per_device_train_batch_size": 2, "enable_channel_loss": feature == "padding_free"}
    assert_same_training(train(loss_type="dft", **options), train(enable_dft_loss=True, **options))
    assert_same_training(train(loss_type="sft", **options), train(**options))


@pytest.mark.parametrize("loss_type", ["sft", "dft"])
def test_micro_batches_of_one_global_batch_agree(train, loss_type):
    splits = [
        train(loss_type=loss_type, per_device_train_batch_size=8 // n, gradient_accumulation_steps=n) for n in (1, 2, 8)
    ]
    for split in splits[1:]:
        assert_same_training(split, splits[0], keys=("loss", "grad_norm", *METRICS))


def test_objectives_differ(train):
    batches = {"gradient_accumulation_steps": 1, "per_device_train_batch_size": 8}
    sft, dft = (steps(train(loss_type=name, **batches))[0] for name in ("sft", "dft"))
    assert dft["loss"] < 0.5 * sft["loss"] and dft["nll"] == pytest.approx(sft["nll"], rel=1e-6)
    assert sft["nll"] == pytest.approx(sft["loss"], rel=1e-5) and dft["objective"] == pytest.approx(
        dft["loss"], rel=1e-5
    )
    assert sft["effective_tokens"] == 1.0 and 0 < dft["effective_tokens"] < 1 and 0 < dft["one_minus_p"] < 1


def test_channel_loss_stays_readable(train):
    channels = {"enable_channel_loss": True, "learning_rate": 0.0, "per_device_train_batch_size": 4}
    plain, dft = steps(train(**channels))[0], steps(train(loss_type="dft", **channels))[0]
    for key in ("loss_c0", "loss_c1"):
        assert dft[key] == pytest.approx(plain[key], rel=1e-6)


@pytest.mark.parametrize("data", [{}, SCALED], ids=["plain", "loss_scale"])
def test_eval_loss_is_plain_cross_entropy_in_every_arm(train, data):
    evaluation = {"split_dataset_ratio": 0.25, "eval_strategy": "steps", "eval_steps": 3, "learning_rate": 0.0, **data}
    plain, sft, dft = train(**evaluation), train(loss_type="sft", **evaluation), train(loss_type="dft", **evaluation)
    expected = steps(plain, "eval_loss")[0]
    for run in (sft, dft):
        found = steps(run, "eval_loss")[0]
        assert found["eval_loss"] == pytest.approx(expected["eval_loss"], rel=1e-6)
        assert found["eval_token_acc"] == expected["eval_token_acc"]
        assert found["eval_nll"] == pytest.approx(steps(sft, "eval_loss")[0]["eval_nll"], rel=1e-6)
    assert steps(dft, "eval_loss")[0]["eval_objective"] < 0.5 * steps(dft, "eval_loss")[0]["eval_nll"]


def test_best_checkpoint_can_follow_our_metrics(train):
    evaluation = {"split_dataset_ratio": 0.25, "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps"}
    best = {"save_steps": 2, "metric_for_best_model": "eval_one_minus_p", "greater_is_better": False}
    run = train(loss_type="dft", **evaluation, **best)
    state = json.loads((run[1] / "checkpoint-3" / "trainer_state.json").read_text())
    expected = min(entry["eval_one_minus_p"] for entry in steps(run, "eval_loss"))
    assert state["best_metric"] == pytest.approx(expected, abs=1e-8), "swift rounds what it logs"


def test_metrics_reach_the_files_people_read(train):
    history, folder = train(
        loss_type="dft", loss_config={"fused": False}, split_dataset_ratio=0.25, eval_strategy="epoch"
    )
    assert all(set(line) >= METRICS | {"token_acc"} for line in logged(folder))
    assert all(set(line) >= {f"eval_{key}" for key in METRICS} for line in logged(folder, "eval_loss"))
    assert not METRICS & set(history[-1]), "the summary of the run is not a step"


@pytest.mark.parametrize("tuner_type", ["full", "lora"])
def test_the_run_and_its_checkpoints_state_the_loss(train, tuner_type):
    saving = {"save_strategy": "steps", "save_steps": 2, "tuner_type": tuner_type, "lora_rank": 4}
    _, folder = train(loss_type="dft", **saving)
    record = json.loads((folder / "dft_run.json").read_text())
    assert record["loss_type"] == "dft" and record["framework"] == "ms-swift" and record["stage"] == "sft"
    assert json.loads((folder / "checkpoint-2" / "dft_run.json").read_text()) == record
    if tuner_type == "lora":
        card = (folder / "checkpoint-2" / "README.md").read_text()
        assert card.count("## Training objective") == 1 and '`"dft"`' in card


def test_the_banner_is_in_swifts_log(inputs, caplog):
    model, data, root = inputs
    run_in_process(config(model, data / "toy.jsonl", root / "banner", loss_type="dft", max_steps=1))
    lines = [x for x in caplog.records if "dft: sft trainer loss -> dft" in x.getMessage()]
    assert len(lines) == 1 and lines[0].name == "swift" and "ms-swift 4.6.0" in lines[0].getMessage()


def test_without_loss_type_nothing_is_added(train):
    history, folder = train()
    assert not (folder / "dft_run.json").exists()
    assert set(history[0]) == {"loss", "grad_norm", "learning_rate", "token_acc", "epoch", "step"}


def test_a_loss_of_swifts_own_still_works(train):
    assert_same_training(train(loss_type="cross_entropy"), train(), keys=("loss", "grad_norm"))


def test_moe_auxiliary_loss_is_kept_and_logged_with_its_factor(inputs):
    from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM

    model, data, root = inputs
    base = json.loads((model / "config.json").read_text())
    shared = {key: base[key] for key in ("vocab_size", "hidden_size", "intermediate_size", "eos_token_id")}
    heads = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    folder = root / "moe"
    tokenizer = {name: (model / name).read_bytes() for name in ("tokenizer.json", "tokenizer_config.json")}
    Qwen2MoeForCausalLM(
        Qwen2MoeConfig(**shared, **heads, **experts, shared_expert_intermediate_size=16, pad_token_id=0)
    ).save_pretrained(folder)
    for name, content in tokenizer.items():
        (folder / name).write_bytes(content)
    options = {"model_type": "qwen2_moe", "router_aux_loss_coef": 0.5, "gradient_accumulation_steps": 2}
    runs = [
        (run_in_process(config(folder, data / "toy.jsonl", root / f"moe{i}", **options, **loss)), None)
        for i, loss in enumerate(({"loss_type": "dft"}, {"enable_dft_loss": True}))
    ]
    assert_same_training(*runs, keys=("loss", "grad_norm"))
    for ours, native in zip(*map(steps, runs), strict=True):  # swift logs it without its factor
        assert ours["aux_loss"] == pytest.approx(0.5 * native["aux_loss"], rel=1e-4)
    assert all(step["loss"] > 0.1 for step in steps(runs[0])), "the auxiliary loss is the larger part"


@pytest.mark.parametrize("loss_type", ["sft", "dft"])
def test_an_all_masked_micro_batch_adds_nothing(train, loss_type):
    single = {"loss_type": loss_type, "dataset": "masked", "per_device_train_batch_size": 1, "max_steps": 1}
    mixed, alone = train(gradient_accumulation_steps=2, **single), train(gradient_accumulation_steps=1, **single)
    for key in ("loss", "grad_norm", "nll"):
        assert steps(mixed)[0][key] == pytest.approx(steps(alone)[0][key], rel=1e-6)


def test_a_step_with_every_label_masked_trains_on(train):
    run = train(loss_type="dft", dataset="masked", per_device_train_batch_size=1)
    history = steps(run)
    assert history[1]["loss"] == 0 and history[1]["grad_norm"] == 0 and "nll" not in history[1]
    assert history[2]["loss"] > 0 and math.isfinite(history[2]["grad_norm"])


def test_resuming_with_another_loss_is_refused(inputs):
    from dft_plugin.errors import ConflictError

    model, data, root = inputs
    settings = config(model, data / "toy.jsonl", root / "resume", save_strategy="steps", save_steps=2, loss_type="dft")
    run_in_process(settings)
    again = {**settings, "max_steps": 4, "resume_from_checkpoint": str(root / "resume" / "checkpoint-2")}
    with pytest.raises(ConflictError, match="loss_type dft -> sft.*resume_only_model"):
        run_in_process({**again, "loss_type": "sft", "output_dir": str(root / "elsewhere")})
    plain = {key: value for key, value in again.items() if key != "loss_type"}
    with pytest.raises(ConflictError, match="began with loss_type dft, and loss_type is not set now"):
        run_in_process(plain)
    assert run_in_process(again)[-1]["step"] == 4


def test_a_second_phase_starts_from_the_weights_and_not_from_the_optimiser(inputs):
    """SFT or plain training, then DFT: refused as a resumed run, right with `resume_only_model` and from the folder."""
    from dft_plugin.errors import ConflictError

    model, data, root = inputs
    saving = {"save_strategy": "steps", "save_steps": 2, "max_steps": 2}
    checkpoints = {}
    for name, loss in (("plain", {}), ("sft", {"loss_type": "sft"})):
        run_in_process(config(model, data / "toy.jsonl", root / f"{name}1", **saving, **loss))
        checkpoints[name] = str(root / f"{name}1" / "checkpoint-2")
    second = config(model, data / "toy.jsonl", root / "second", max_steps=4, loss_type="dft", learning_rate=0.0)
    for name, message in (("plain", "trained without loss_type"), ("sft", "loss_type sft -> dft")):
        with pytest.raises(ConflictError, match=message):
            run_in_process({**second, "resume_from_checkpoint": checkpoints[name]})
    weights = {"resume_from_checkpoint": checkpoints["sft"], "resume_only_model": True}
    found = run_in_process({**second, **weights})
    assert json.loads((root / "second" / "dft_run.json").read_text())["loss_type"] == "dft"
    truth = run_in_process({**second, "model": checkpoints["sft"], "output_dir": str(root / "from-folder")})
    # the resumed one skips the data of the steps done
    assert [x["loss"] for x in found if x.get("step", 0) > 2 and "loss" in x] == pytest.approx(
        [x["loss"] for x in truth if x.get("step", 0) > 2 and "loss" in x], rel=1e-6
    )


@pytest.mark.parametrize(("fused", "message"), [("auto", "never took it"), (False, "never computed it")])
def test_a_replaced_loss_is_noticed_in_the_first_step(inputs, fused, message):
    from swift.callbacks import callbacks_map
    from transformers import TrainerCallback

    from dft_plugin.errors import LossNotLiveError

    class Thief(TrainerCallback):
        def __init__(self, args, trainer):
            self.trainer = trainer

        def on_train_begin(self, args, state, control, **kwargs):
            self.trainer.compute_loss_func = None

    model, data, root = inputs
    callbacks_map["thief"] = Thief
    try:
        with pytest.raises(LossNotLiveError, match=message):
            options = {"loss_type": "dft", "loss_config": {"fused": fused}, "callbacks": ["thief"]}
            run_in_process(config(model, data / "toy.jsonl", root / "thief", **options))
    finally:
        del callbacks_map["thief"]


def test_a_trainer_made_in_python_takes_the_name(inputs, monkeypatch):
    """No command line: training arguments that name the loss, options from the environment."""
    from swift.pipelines import SwiftSft

    from dft_plugin.integrations.ms_swift.loss import DftLoss

    model, data, root = inputs
    seen = []
    original = SwiftSft.train
    monkeypatch.setattr(SwiftSft, "train", lambda self, trainer: seen.append(trainer) or original(self, trainer))
    settings = config(model, data / "toy.jsonl", root / "python", max_steps=1)
    SwiftSft(arguments(settings)).main()
    plain = seen[0]
    plain.args.loss_type = "dft"
    loss = DftLoss(plain.args, plain)
    assert loss.loss.config.objective.name == "dft" and plain.compute_loss.__wrapped__.__self__ is plain
