"""The fused loss inside real transformers models: exact where it is used, refused or declined where it is not."""

import pytest
import torch
from torch import nn

from dft_plugin.config import LossConfig
from dft_plugin.errors import ConflictError, InputError, IntegrationError, LossNotLiveError
from dft_plugin.training.loss_head import find_head
from dft_plugin.training.trainer_loss import TrainerLoss

pytestmark = [pytest.mark.llamafactory, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SMALL = {
    "vocab_size": 61,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.5,
}


def qwen2(**options):
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(Qwen2Config(**{**SMALL, **options}))


def batch():
    inputs = torch.randint(61, (2, 9))
    labels = inputs.clone()
    labels[:, :4] = -100
    return inputs, labels


def step(model, *, fused, inputs, labels, loss_type="dft", **options):
    """One training forward and backward, as a trainer does it."""
    loss = TrainerLoss(LossConfig.parse(loss_type, {"fused": fused, **options}))
    loss.attach(model)
    model.zero_grad()
    with loss.forward(model, {"input_ids": inputs, "labels": labels}, num_items_in_batch=7):
        value = loss(model(input_ids=inputs), labels, num_items_in_batch=7)
    value.backward()
    return loss, value.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("tie_word_embeddings", [False, True])
@pytest.mark.parametrize("loss_type", ["sft", "dft"])
def test_fused_equals_logits_in_loss_and_every_gradient(tie_word_embeddings, loss_type):
    model = qwen2(tie_word_embeddings=tie_word_embeddings)
    inputs, labels = batch()
    fused, value, grads = step(model, fused=True, inputs=inputs, labels=labels, loss_type=loss_type, chunk_size=3)
    plain, expected, truths = step(model, fused=False, inputs=inputs, labels=labels, loss_type=loss_type)
    assert (fused.path.name, plain.path.name) == ("fused", "logits")
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-7)
    assert grads.keys() == truths.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(grad, truths[name], rtol=1e-4, atol=1e-6, msg=name)
    assert fused.pop_metrics("train") == pytest.approx(plain.pop_metrics("train"), rel=1e-5)
    assert "forward" not in vars(model.lm_head), "the head was not given back"


def test_evaluation_returns_plain_cross_entropy_without_a_graph():
    model = qwen2().eval()
    inputs, labels = batch()
    loss = TrainerLoss(LossConfig.parse("dft", {"fused": True}))
    loss.attach(model)
    with torch.no_grad(), loss.forward(model, {"input_ids": inputs, "labels": labels}, num_items_in_batch=None):
        value = loss(model(input_ids=inputs), labels)
    logits = model(input_ids=inputs).logits[:, :-1]
    expected = nn.functional.cross_entropy(logits.reshape(-1, 61), labels[:, 1:].reshape(-1))
    torch.testing.assert_close(value, expected.detach(), rtol=1e-5, atol=1e-6)
    assert loss.num_training_calls == 0 and loss.pop_metrics("eval")["objective"] < float(value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast(dtype):
    model = qwen2().to(dtype)
    inputs, labels = batch()
    with torch.autocast("cpu", torch.bfloat16):
        _, value, grads = step(model, fused=True, inputs=inputs, labels=labels)
        _, expected, truths = step(model, fused=False, inputs=inputs, labels=labels)
    torch.testing.assert_close(value, expected, rtol=2e-2, atol=1e-4)
    for name, grad in grads.items():
        assert grad.dtype == dtype
        error = (grad.float() - truths[name].float()).norm() / truths[name].float().norm()
        assert error < 5e-2, name


def test_a_trainer_that_never_takes_the_loss_is_noticed():
    model = qwen2()
    inputs, labels = batch()
    loss = TrainerLoss(LossConfig.parse("dft"))
    loss.attach(model)
    with (
        pytest.raises(LossNotLiveError, match="never took it"),
        loss.forward(model, {"input_ids": inputs, "labels": labels}, num_items_in_batch=7),
    ):
        model(input_ids=inputs)


def test_verification_catches_a_wrong_kernel(monkeypatch):
    from dft_plugin.training import verification

    right = verification.linear_loss
    monkeypatch.setattr(verification, "linear_loss", lambda hidden, *a, **k: right(hidden * 1.01, *a, **k))
    inputs, labels = batch()
    model = qwen2()
    with pytest.raises(IntegrationError, match="differs from the float32 logits path"):
        step(model, fused="auto", inputs=inputs, labels=labels)
    step(model, fused="auto", inputs=inputs, labels=labels, verify=False)


def test_verification_waits_for_a_micro_batch_with_labels():
    model = qwen2()
    inputs, labels = batch()
    loss, value, _ = step(model, fused=True, inputs=inputs, labels=torch.full_like(labels, -100))
    assert value == 0 and loss.pop_metrics("train") == {}


def test_heads_that_are_not_plain_linear_are_declined():
    from peft import LoraConfig, get_peft_model

    lora_head = get_peft_model(qwen2(), LoraConfig(target_modules=["q_proj", "lm_head"], r=2))
    assert "lora" in find_head(lora_head).reason
    saved_head = get_peft_model(qwen2(), LoraConfig(target_modules=["q_proj"], modules_to_save=["lm_head"], r=2))
    assert find_head(saved_head).head is saved_head.base_model.model.lm_head.modules_to_save["default"]
    plain = get_peft_model(qwen2(), LoraConfig(target_modules=["q_proj"], r=2))
    assert find_head(plain).head is plain.base_model.model.lm_head
    hooked = qwen2()
    hooked.lm_head.forward = hooked.lm_head.forward
    assert "already replaced" in find_head(hooked).reason


def test_placeholder_tokens_are_refused_as_targets():
    model = qwen2()
    model.config.image_token_id = 60
    inputs, labels = batch()
    labels[0, 6] = 60
    with pytest.raises(InputError, match=r"placeholder tokens \[60\]"):
        step(model, fused="auto", inputs=inputs, labels=labels)


def test_a_filter_reports_what_it_does_to_the_first_batch():
    torch.manual_seed(0)
    model = qwen2(vocab_size=4001, tie_word_embeddings=False)
    with torch.no_grad():  # words of any frequency, as in text
        model.lm_head.weight[:, 0] -= torch.linspace(-1, 9, 4001)
        model.model.norm.weight[0] = 0
        model.lm_head.weight[:, 1:] += model.lm_head.weight[:, :1] * 0.5
    inputs = torch.randint(40, (2, 9))
    exact, value, grads = step(model, fused=True, inputs=inputs, labels=inputs)
    filtered, same_value, near = step(model, fused=True, inputs=inputs, labels=inputs, gradient_filter=0.5)
    assert exact.path.filter_report is None
    assert torch.equal(value, same_value)
    assert torch.equal(grads["lm_head.weight"], near["lm_head.weight"])
    report = filtered.path.filter_report
    assert 0 < report.kept_columns <= 1
    name = "model.layers.0.mlp.down_proj.weight"
    if report.kept_columns == 1:
        assert torch.equal(grads[name], near[name])
        assert "computed exactly" in str(report)
    else:
        assert 0 < report.distance < 0.1
        assert f"{report.kept_columns:.1%}" in str(report)


def test_a_filter_without_the_fused_loss_is_refused():
    model = qwen2()
    model.lm_head = nn.Sequential(model.lm_head)
    with pytest.raises(ConflictError, match="gradient_filter=auto in loss_config needs the fused loss"):
        TrainerLoss(LossConfig.parse("dft", {"gradient_filter": "auto"})).attach(model)
