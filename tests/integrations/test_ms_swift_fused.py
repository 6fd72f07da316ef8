"""The fused loss through ms-swift: every setting equals the native DFT switch, text and vision-language."""

import json
from pathlib import Path

import pytest

from tests.integrations import tiny, tiny_vl
from tests.integrations.swift_runs import config, run_in_process, write_data

pytestmark = [pytest.mark.swift, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

FUSED = {"loss_type": "dft", "loss_config": {"fused": True}}
NATIVE = {"enable_dft_loss": True}
LORA = {"tuner_type": "lora", "lora_rank": 4, "target_modules": "all-linear"}
VL = {
    **{"model_type": "qwen2_5_vl", "template": "tiny_vl", "max_length": 1024, "per_device_train_batch_size": 2},
    "external_plugins": str(Path(__file__).with_name("swift_tiny_vl.py")),
}
TEXT_SETTINGS = {
    "lora-and-trained-head": {**LORA, "modules_to_save": ["lm_head"]},
    "tied-head": {"model": "tied"},
    "tied-head-lora": {"model": "tied", **LORA},
}
VL_SETTINGS = {
    "full": {"freeze_vit": False, "freeze_aligner": False},
    "lora": LORA,
    "tied-head": {"model": "vl-tied"},
    "accumulation": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4},
    "real-multi-image": {"dataset": "mllm_demo", "per_device_train_batch_size": 3, "max_pixels": 28 * 28 * 16},
    # the prompt is trained, but swift masks the image placeholders itself
    "loss_scale-all": {"loss_scale": "all"},
}


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, data_dir):
    root = tmp_path_factory.mktemp("fused")
    models = {
        "text": tiny.make_text_model(root / "text"),
        "tied": tiny.make_text_model(root / "tied", tie_word_embeddings=True),
        "vl": tiny_vl.make_vl_model(root / "vl"),
        "vl-tied": tiny_vl.make_vl_model(root / "vl-tied", tie_word_embeddings=True),
    }
    data = write_data(root / "data")
    rows = tiny_vl.write_vl_data(root / "vl_data", 12)
    write_rows(data / "toy_vl.jsonl", rows)
    write_rows(data / "mllm_demo.jsonl", tiny_vl.mllm_demo_rows(data_dir))
    for row in rows:
        row["messages"][-1]["content"] += "<|image_pad|>"
    write_rows(data / "placeholder.jsonl", rows)
    return models, data


@pytest.fixture
def train(inputs, tmp_path):
    models, data = inputs

    def run(name, *, model="text", dataset="toy", **overrides):
        # a small step: rounding must not grow over the three compared steps
        settings = config(
            models[model], data / f"{dataset}.jsonl", tmp_path / name, **{"learning_rate": 1e-4, **overrides}
        )
        return [entry for entry in run_in_process(settings) if "loss" in entry]

    return run


def assert_same(ours, native, keys=("loss", "grad_norm", "token_acc")):
    assert len(ours) == len(native) == 3
    for step, (a, b) in enumerate(zip(ours, native, strict=True)):
        for key in keys:
            assert a[key] == pytest.approx(b[key], rel=1e-5), f"{key} at step {step + 1}"


def path_of(folder):
    record = json.loads((folder / "dft_run.json").read_text())
    return record["path"], record["path_reason"]


@pytest.mark.parametrize("name", TEXT_SETTINGS)
def test_text(train, tmp_path, name):
    settings = TEXT_SETTINGS[name]
    ours = train("ours", **FUSED, **settings)
    assert path_of(tmp_path / "ours") == ("fused", "")
    assert_same(ours, train("native", **NATIVE, **settings))


@pytest.mark.parametrize("name", VL_SETTINGS)
def test_vision_language(train, tmp_path, name):
    settings = {**VL, "model": "vl", "dataset": "toy_vl", **VL_SETTINGS[name]}
    ours = train("ours", **FUSED, **settings)
    assert path_of(tmp_path / "ours") == ("fused", "")
    assert_same(ours, train("native", **NATIVE, **settings))


def test_a_placeholder_among_the_labels_is_refused(train):
    """swift masks the placeholders of the images it inserts; one written in an answer stays a label."""
    from dft_plugin.errors import InputError

    with pytest.raises(InputError, match="placeholder tokens"):
        train("placeholder", model="vl", dataset="placeholder", **FUSED, **VL)


def test_lora_on_the_head_takes_the_logits_path_with_the_same_objective(train, tmp_path):
    settings = {**LORA, "target_modules": ["q_proj", "lm_head"]}
    ours = train("ours", loss_type="dft", **settings)
    path, reason = path_of(tmp_path / "ours")
    assert path == "logits" and "lm_head is a peft" in reason
    assert_same(ours, train("native", **NATIVE, **settings))


def test_fused_true_refuses_what_cannot_be_exact(train):
    from dft_plugin.errors import ConflictError

    with pytest.raises(ConflictError, match="fused: auto"):
        train("ours", **FUSED, **LORA | {"target_modules": ["lm_head"]})
