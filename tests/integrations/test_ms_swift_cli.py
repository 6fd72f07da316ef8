"""The real `swift`: alone, on two ranks, with external plugins, inert; its checkpoints load without us."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.integrations import tiny
from tests.integrations.swift_runs import (
    ROOT,
    arguments,
    config,
    free_port,
    logged,
    run_cli,
    run_elsewhere,
    run_in_process,
    write_data,
)

pytestmark = [
    pytest.mark.swift,
    pytest.mark.slow,
    # The framework's own imports and calls warn about things we do not decide.
    pytest.mark.filterwarnings("ignore"),
]

PLUGIN = ROOT / "plugins" / "ms_swift_dft.py"
AUTOLOAD_OFF = {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
BANNER = "dft: sft trainer loss -> dft"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("cli")
    return tiny.make_text_model(root / "model"), write_data(root / "data"), root


@pytest.fixture(scope="module")
def settings(inputs):
    model, data, root = inputs

    def make(name, *, dataset="toy", **overrides):
        return config(model, data / f"{dataset}.jsonl", root / name, **overrides)

    return make


@pytest.fixture(scope="module")
def train(settings):
    """One run through the command line; its output folder and what it printed."""

    def run(name, *, env=None, **overrides):
        chosen = settings(name, **overrides)
        result = run_cli(["sft", *arguments(chosen)], env=env)
        assert result.returncode == 0, result.stderr[-4000:]
        return Path(chosen["output_dir"]), result.stdout + result.stderr

    return run


@pytest.fixture(scope="module")
def one_process(settings):
    """The same run in this process."""

    def run(name, **overrides):
        return [entry for entry in run_in_process(settings(name, **overrides)) if "loss" in entry]

    return run


def assert_same(folder, expected, keys=("loss", "grad_norm")):
    for found, step in zip(logged(folder), expected, strict=True):
        for key in keys:
            assert found[key] == pytest.approx(step[key], rel=1e-5, abs=2e-8), "swift logs eight decimals"


def path_of(folder):
    record = json.loads((folder / "dft_run.json").read_text())
    return record["path"], record["path_reason"]


def find(history, key):
    return next(entry[key] for entry in history if key in entry)


def digest(folder):
    return hashlib.sha256((folder / "checkpoint-3" / "model.safetensors").read_bytes()).hexdigest()


def test_yaml_file_and_autoload_alone_on_two_ranks_one_without_labels(settings, one_process, inputs):
    file = inputs[2] / "dft.yaml"
    masked = {"loss_type": "dft", "dataset": "masked", "loss_config": {"chunk_size": 8}}
    file.write_text(yaml.safe_dump(settings("yaml", **masked, per_device_train_batch_size=1)))
    result = run_cli(["sft", str(file)], env={"NPROC_PER_NODE": "2", "MASTER_PORT": str(free_port())})
    assert result.returncode == 0, result.stderr[-4000:]
    assert (result.stdout + result.stderr).count(BANNER) == 1, "the banner belongs to rank 0"
    expected = one_process("yaml1", **masked, per_device_train_batch_size=2)
    assert_same(inputs[2] / "yaml", expected, ("loss", "grad_norm", "nll", "effective_tokens"))
    saved = json.loads((inputs[2] / "yaml" / "args.json").read_text())
    assert saved["loss_type"] == "dft" and saved["external_plugins"] == []
    record = json.loads((inputs[2] / "yaml" / "dft_run.json").read_text())
    assert record["loss_config"]["chunk_size"] == 8 and record["path"] == "fused"


def test_external_plugin_alone_then_all_of_it_gone(train, one_process, settings, inputs, tmp_path):
    """Trained with the plugin file; then, where neither it nor dft_plugin exists: inference, and a plain run."""
    plugin = tmp_path / "plugins" / PLUGIN.name
    plugin.parent.mkdir()
    shutil.copy(PLUGIN, plugin)
    saving = {"save_strategy": "steps", "save_steps": 3}
    lora = {"tuner_type": "lora", "lora_rank": 4}
    env = {**AUTOLOAD_OFF, "DFT_LOSS_CONFIG": '{"chunk_size": 8}'}
    folder, log = train("external", env=env, loss_type="dft", external_plugins=str(plugin), **lora, **saving)
    assert log.count(BANNER) == 1
    record = json.loads((folder / "checkpoint-3" / "dft_run.json").read_text())
    assert record["loss_config"]["chunk_size"] == 8
    assert path_of(folder) == ("fused", "")
    assert_same(folder, one_process("external1", loss_type="dft", **lora))

    shutil.rmtree(plugin.parent)
    absent = tmp_path / "absent"
    absent.mkdir()
    (absent / "dft_plugin.py").write_text("raise ImportError('dft-plugin is not installed here')\n")
    infer = {
        "adapters": str(folder / "checkpoint-3"),
        "val_dataset": f"{inputs[1] / 'react.jsonl'}#2",
        "max_new_tokens": 4,
        "result_path": str(tmp_path / "answers.jsonl"),
        "dataset_num_proc": 1,
    }
    jobs = [("infer", infer), ("sft", settings("stock", **saving))]
    answers, stock = run_elsewhere(jobs, tmp_path, env=AUTOLOAD_OFF, first_on_path=(str(absent),))
    assert len(answers) == 2 and all(answer["response"] is not None for answer in answers)

    with_plugin = one_process("inert", **saving)
    assert [step for step in stock if "loss" in step] == with_plugin, "without loss_type a run is stock to the bit"
    assert digest(inputs[2] / "stock") == digest(inputs[2] / "inert")


def test_sequence_parallel_equals_one_process(settings, one_process, inputs):
    scaled = {"dataset": "react", "loss_scale": "react", "attn_impl": "sdpa", "per_device_train_batch_size": 2}
    evaluation = {"split_dataset_ratio": 0.25, "eval_strategy": "steps", "eval_steps": 2, "max_steps": 2}
    split, frozen = {"sequence_parallel_size": 2}, {"learning_rate": 0.0, "dataset": "toy"}
    dft, plain = {"loss_type": "dft", **scaled, **evaluation}, {**evaluation, **frozen, "attn_impl": "sdpa"}
    jobs = [
        settings("sp", **dft, **split),
        settings("sp_plain", **plain, **split),
        settings("sp_dft", **plain, **split, loss_type="dft"),
        # Both ways of loading together are fine, too.
        settings("sp_channels", **dft, **split, enable_channel_loss=True, external_plugins=str(PLUGIN)),
    ]
    ours, expected_eval, frozen_eval, channels = run_elsewhere([("sft", job) for job in jobs], inputs[2], ranks=2)
    keys = ("loss", "grad_norm", "nll", "one_minus_p", "objective", "effective_tokens", "token_acc")
    scaled_alone, plain_alone = one_process("sp1", **dft), one_process("sp2", **plain, loss_type="dft")
    for found, alone in ((ours, scaled_alone), (channels, scaled_alone), (frozen_eval, plain_alone)):
        steps = [entry for entry in found if "loss" in entry]
        for step, expected in zip(steps, alone, strict=True):
            assert {key: step[key] for key in keys} == pytest.approx({key: expected[key] for key in keys}, rel=1e-5)
    for name in ("sp", "sp_dft", "sp1"):
        assert path_of(inputs[2] / name) == ("fused", "")
    path, reason = path_of(inputs[2] / "sp_channels")
    assert path == "logits" and "enable_channel_loss under sequence parallelism" in reason
    assert find(frozen_eval, "eval_loss") == pytest.approx(find(expected_eval, "eval_loss"), rel=1e-6)
    assert find(frozen_eval, "eval_objective") < find(frozen_eval, "eval_nll")


def test_bad_settings_end_the_program(settings):
    result = run_cli(["sft", *arguments(settings("typo", loss_type="dtf"))])
    assert result.returncode != 0
    assert "UnknownObjectiveError: loss_type='dtf'" in result.stderr
    assert "logging.jsonl" not in result.stderr, "refused before training was set up"
