"""The fused loss through LLaMA-Factory: every setting equals the native DFT switch, text and vision-language."""

import json

import pytest

from tests.integrations import tiny, tiny_vl
from tests.integrations.llamafactory_runs import config, history, run_in_process

pytestmark = [pytest.mark.llamafactory, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

LORA = {"finetuning_type": "lora", "lora_rank": 4, "lora_target": "q_proj,v_proj"}
VL = {"dataset": "toy_vl", "template": "qwen2_vl", "cutoff_len": 512, "per_device_train_batch_size": 2}
NEW_TOKENS = {"add_tokens": "<new_a>,<new_b>", "resize_vocab": True}
EVALUATED = {"val_size": 0.25, "eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
TEXT_SETTINGS = {
    "lora": LORA,
    "lora-and-trained-head": {**LORA, "additional_target": "lm_head"},
    "tied-head": {"model": "tied"},
    "tied-head-lora": {"model": "tied", **LORA},
    "packing": {"packing": True, "cutoff_len": 128},
    "neat-packing": {"neat_packing": True, "packing": True, "cutoff_len": 128, "flash_attn": "sdpa"},
    "no-checkpointing": {"disable_gradient_checkpointing": True},
    "upcast-head-output": {"upcast_lmhead_output": True},
    "dora": {**LORA, "use_dora": True},
    "pissa": {**LORA, "pissa_init": True, "pissa_iter": 4},
    "rslora": {**LORA, "use_rslora": True},
    "lora-plus": {**LORA, "loraplus_lr_ratio": 16.0},
    "oft": {"finetuning_type": "oft", "oft_block_size": 8, "oft_target": "q_proj,v_proj"},
    "freeze": {"finetuning_type": "freeze", "freeze_trainable_layers": 1},
    "resize-vocab": NEW_TOKENS,
    "resize-vocab-lora": {**NEW_TOKENS, **LORA, "additional_target": "embed_tokens,lm_head"},
    "resize-vocab-tied": {**NEW_TOKENS, "model": "tied"},
    "muon": {"use_muon": True},
    "neftune": {"neftune_noise_alpha": 5.0},
    "auto-find-batch-size": {"auto_find_batch_size": True},
    "mask-history": {"mask_history": True},
    "best-model": {"eval_on_start": True, "load_best_model_at_end": True, **EVALUATED},
    "bf16": {"model": "wide", "bf16": True, "per_device_train_batch_size": 16},
    "bf16-lora": {"model": "wide", "bf16": True, "per_device_train_batch_size": 16, **LORA},
}
VL_SETTINGS = {
    "frozen-language-model": {"freeze_language_model": True, "freeze_vision_tower": False},
    "trained-projector": {"freeze_multi_modal_projector": False},
    "full": {"freeze_vision_tower": False},
    "lora": LORA,
    "tied-head": {"model": "vl-tied"},
    "accumulation": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4},
    "real-multi-image": {"dataset": "mllm_demo", "per_device_train_batch_size": 3},
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, data_dir):
    root = tmp_path_factory.mktemp("fused")
    models = {
        "text": tiny.make_text_model(root / "text"),
        # bfloat16 rounds the two paths differently; in a model of ordinary width and scale that averages out
        "wide": tiny.make_text_model(root / "wide", hidden_size=128, initializer_range=0.05),
        "tied": tiny.make_text_model(root / "tied", tie_word_embeddings=True),
        "vl": tiny_vl.make_vl_model(root / "vl"),
        "vl-tied": tiny_vl.make_vl_model(root / "vl-tied", tie_word_embeddings=True),
    }
    data = tiny.write_llamafactory_data(root / "data")
    tiny_vl.write_vl_data(data)
    tiny_vl.register_vl_data(data, "mllm_demo", tiny_vl.mllm_demo_rows(data_dir))
    return models, data, root


@pytest.fixture
def train(inputs, tmp_path):
    models, data, _ = inputs

    def run(name, *, model="text", **overrides):
        # a small step: rounding must not grow over the three compared steps
        settings = {"learning_rate": 1e-4, "preprocessing_num_workers": None, **overrides}
        return run_in_process(config(models[model], data, tmp_path / name, **settings))

    return run


def assert_same(ours, native, rel):
    for step, (a, b) in enumerate(zip(history(ours), history(native), strict=True)):
        for key in ("loss", "grad_norm"):
            assert a[key] == pytest.approx(b[key], rel=rel), f"{key} at step {step + 1}"


def path_of(folder):
    record = json.loads((folder / "dft_run.json").read_text())
    return record["path"], record["path_reason"]


@pytest.mark.parametrize("name", TEXT_SETTINGS)
def test_text(train, name):
    settings = TEXT_SETTINGS[name]
    ours = train("ours", loss_type="dft", loss_config={"fused": True}, **settings)
    assert path_of(ours) == ("fused", "")
    assert_same(ours, train("native", use_dft_loss=True, **settings), rel=1e-3 if "bf16" in name else 1e-5)


@pytest.mark.parametrize("name", VL_SETTINGS)
def test_vision_language(train, name):
    settings = {**VL, "model": "vl", **VL_SETTINGS[name]}
    ours = train("ours", loss_type="dft", loss_config={"fused": True}, **settings)
    assert path_of(ours) == ("fused", "")
    assert_same(ours, train("native", use_dft_loss=True, **settings), rel=1e-5)


def test_vision_language_sft_does_not_depend_on_the_micro_batches(train):
    """Native plain training averages micro-batch means here, so its comparison with DFT is not like for like."""
    settings = {**VL, "model": "vl", "loss_type": "sft"}
    one = train("one", **{**settings, "per_device_train_batch_size": 4})
    four = train("four", **{**settings, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 4})
    assert_same(one, four, rel=1e-5)


def test_training_on_the_prompt_of_images_is_refused(train):
    from dft_plugin.errors import InputError

    with pytest.raises(InputError, match="train_on_prompt: false"):
        train("prompt", model="vl", loss_type="dft", **VL, train_on_prompt=True)


def test_evaluation_during_training_never_makes_logits_and_stays_plain(train):
    evaluation = {"val_size": 0.25, "eval_strategy": "steps", "eval_steps": 1, "learning_rate": 0.0}
    fused = train("fused", loss_type="dft", **evaluation)
    plain = train("plain", **evaluation)
    assert path_of(fused)[0] == "fused"
    expected = history(plain, "eval_loss")[0]["eval_loss"]
    assert history(fused, "eval_loss")[0]["eval_loss"] == pytest.approx(expected, rel=1e-6)


def test_lora_on_the_head_takes_the_logits_path_with_the_same_objective(train):
    settings = {**LORA, "lora_target": "q_proj,lm_head"}
    ours = train("ours", loss_type="dft", **settings)
    path, reason = path_of(ours)
    assert path == "logits" and "lm_head is a peft" in reason
    assert_same(ours, train("native", use_dft_loss=True, **settings), rel=1e-5)


def test_fused_true_refuses_what_cannot_be_exact(train):
    from dft_plugin.errors import ConflictError

    with pytest.raises(ConflictError, match="fused: auto"):
        train("ours", loss_type="dft", loss_config={"fused": True}, **LORA | {"lora_target": "lm_head"})
