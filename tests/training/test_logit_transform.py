"""What lies between the head and the trainer: found exactly, trained fused where it can be, and left where not."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from dft_plugin.config import LossConfig
from dft_plugin.core import reference
from dft_plugin.core.reference import reference_loss
from dft_plugin.errors import ConflictError, IntegrationError
from dft_plugin.training.trainer_loss import TrainerLoss
from tests.training.test_loss_head import SMALL, batch, qwen2, step

pytestmark = [pytest.mark.llamafactory, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

RECURRENT = {
    **{"attention_window_size": 8, "lru_width": 16, "block_types": ("recurrent", "attention"), "num_hidden_layers": 2},
    **{"w_init_variance_scale": 1.0, "final_w_init_variance_scale": 1.0},
}
FALCON = {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8}
# class, its settings, the factor, the cap, the setting the banner names
FAMILIES = {
    "gemma2": ("Gemma2", {"final_logit_softcapping": 3.0}, 1.0, 3.0, "final_logit_softcapping=3"),
    "recurrent_gemma": ("RecurrentGemma", {"logits_soft_cap": 3.0, **RECURRENT}, 1.0, 3.0, "logits_soft_cap=3"),
    "granite": ("Granite", {"logits_scaling": 7.0}, 1 / 7, None, "logits_scaling=7"),
    "cohere": ("Cohere", {"logit_scale": 0.3}, 0.3, None, "logit_scale=0.3"),
    "falcon_h1": ("FalconH1", {"lm_head_multiplier": 0.3, **FALCON}, 0.3, None, "lm_head_multiplier=0.3"),
}


def make(name):
    import transformers

    family, settings, *_ = FAMILIES[name]
    config = getattr(transformers, f"{family}Config")(**{**SMALL, "tie_word_embeddings": False, **settings})
    torch.manual_seed(0)
    model = getattr(transformers, f"{family}ForCausalLM")(config)
    with torch.no_grad():  # RecurrentGemma initialises its head so small that no cap would show
        model.get_output_embeddings().weight.normal_(std=0.5)
    return model


def textbook(model, inputs, labels, *, scale, softcap):
    """Loss and gradients in float64, token by token, from the hidden states the model hands its head."""
    head, found = model.get_output_embeddings(), []
    handle = head.register_forward_pre_hook(lambda module, args: found.append(args[0].detach()))
    model(input_ids=inputs)
    handle.remove()
    hidden, targets = found[0][:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    return reference_loss(
        *(hidden, head.weight, targets, reference.dft_weight), num_items=7, logit_scale=scale, logit_softcap=softcap
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_scales_and_caps_are_trained_fused_and_equal_the_float64_reference(name):
    _, _, scale, softcap, source = FAMILIES[name]
    model = make(name)
    inputs, labels = batch()
    fused, value, grads = step(model, fused=True, inputs=inputs, labels=labels)
    assert fused.path.name == "fused" and fused.path.transform == source
    truth = textbook(model, inputs, labels, scale=scale, softcap=softcap)
    torch.testing.assert_close(value.double(), truth.loss, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(grads["lm_head.weight"].double(), truth.grad_weight, rtol=1e-4, atol=1e-7)
    _, expected, truths = step(model, fused=False, inputs=inputs, labels=labels)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-7)
    for parameter, grad in grads.items():
        torch.testing.assert_close(grad, truths[parameter], rtol=1e-4, atol=1e-6, msg=parameter)


@pytest.mark.parametrize("name", ["gemma2", "granite"])
def test_bfloat16_is_at_least_as_exact_as_the_logits_path(name):
    _, _, scale, softcap, _ = FAMILIES[name]
    model = make(name).to(torch.bfloat16)
    inputs, labels = batch()
    _, value, _ = step(model, fused=True, inputs=inputs, labels=labels)
    _, plain, _ = step(model, fused=False, inputs=inputs, labels=labels)
    truth = textbook(model, inputs, labels, scale=scale, softcap=softcap).loss
    assert abs(value.double() - truth) <= abs(plain.double() - truth) + 1e-4 * truth


def changing(change):
    """A model whose forward does `change` to its logits, where their values are not told by its configuration."""
    model = qwen2()
    forward = model.forward

    def forward_with_change(*args, **kwargs):
        outputs = forward(*args, **kwargs)
        outputs.logits = change(outputs.logits)
        return outputs

    model.forward = forward_with_change
    return model


def masked(logits):
    logits[..., -1:] = -1e4
    return logits


CHANGES = {
    "scale": lambda x: x * 0.77,
    "cap": lambda x: torch.tanh(x / 5.5) * 5.5,
    "bias": lambda x: x + torch.linspace(0, 1e-3, x.shape[-1]),
    "mask-in-place": masked,
    "slice": lambda x: x[..., :-1],
    "cast": lambda x: x.bfloat16().float(),
    "tiny-scale": lambda x: x * (1 + 2**-20),
    "last-position": lambda x: torch.cat([x[:, :-1], x[:, -1:] * 0.5], 1),
    "roll": lambda x: x.roll(1, 0),
    "fails": lambda x: x.view(2, 9, 61, 1).squeeze(-1)[:, :, [70]],
    "clamp": lambda x: x.clamp(max=1e3),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_an_unknown_change_takes_the_logits_path_by_itself_and_is_refused_under_fused_true(change):
    inputs, labels = batch()
    model, loss = changing(change), TrainerLoss(LossConfig.parse("dft"))
    loss.attach(model)
    loss.path.settle(model, {"input_ids": inputs, "labels": labels})
    assert loss.path.name == "logits" and "the model" in loss.path.reason
    with pytest.raises(ConflictError, match="fused: auto"):
        step(changing(change), fused=True, inputs=inputs, labels=labels)


def test_an_exact_cast_is_no_change():
    inputs, labels = batch()
    loss, _, _ = step(changing(lambda x: x.double()), fused=True, inputs=inputs, labels=labels)
    assert loss.path.name == "fused" and loss.path.transform == ""


def test_a_number_of_the_configuration_is_trusted_only_where_it_is_used():
    model = qwen2()
    model.config.logit_scale, model.config.final_logit_softcapping = 0.25, 30.0
    inputs, labels = batch()
    loss, _, _ = step(model, fused=True, inputs=inputs, labels=labels)
    assert loss.path.transform == ""


def test_a_head_that_runs_twice_takes_the_logits_path():
    model = qwen2()
    forward = model.forward
    model.forward = lambda *args, **kwargs: (forward(*args, **kwargs), forward(*args, **{**kwargs, "labels": None}))[0]
    inputs, labels = batch()
    loss, _, _ = step(model, fused="auto", inputs=inputs, labels=labels)
    assert loss.path.name == "logits" and "ran 2 times" in loss.path.reason


def test_the_proof_leaves_no_trace():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x):
            self.calls += 1
            random.random(), np.random.rand(), torch.rand(1)
            return nn.functional.dropout(x, 0.5, self.training)

    model = qwen2()
    model.model.norm = nn.Sequential(model.model.norm, Counting())
    model.gradient_checkpointing_enable()
    inputs, labels = batch()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    loss = TrainerLoss(LossConfig.parse("dft", {"fused": True}))
    loss.attach(model)
    loss.path.settle(model, {"input_ids": inputs, "labels": labels})
    assert torch.equal(states[0], torch.get_rng_state()) and states[1] == random.getstate()
    assert (states[2] == np.random.get_state()[1]).all()
    assert model.training and all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_each_mode_is_proven_by_itself():
    model = changing(lambda x: x if model.training else x * 0.77)
    inputs, labels = batch()
    loss, _, _ = step(model, fused="auto", inputs=inputs, labels=labels)
    assert loss.path.name == "fused"
    model.eval()
    with torch.no_grad():
        loss.path.settle(model, {"input_ids": inputs, "labels": labels})
    assert loss.path.name == "logits"


def test_a_change_that_comes_later_stops_the_run_at_its_next_log():
    factor = 1.0
    model = changing(lambda x: x * factor)
    inputs, labels = batch()
    loss, _, _ = step(model, fused=True, inputs=inputs, labels=labels)
    loss.pop_metrics("train")
    factor = 0.999
    with loss.forward(model, {"input_ids": inputs, "labels": labels}, num_items_in_batch=7):
        loss(model(input_ids=inputs), labels)
    with pytest.raises(IntegrationError, match="otherwise than in the first forward"):
        loss.pop_metrics("train")
