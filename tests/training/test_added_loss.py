"""What a model adds to its loss is kept with its gradient, and refused by name where it cannot be."""

import pytest
import torch
from torch import nn

from dft_plugin.config import LossConfig
from dft_plugin.core.logits_loss import logits_loss
from dft_plugin.errors import ConflictError
from dft_plugin.training.trainer_loss import TrainerLoss

pytestmark = [pytest.mark.llamafactory, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SMALL = {
    "vocab_size": 61,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
    "output_router_logits": True,
    "router_aux_loss_coef": 0.5,
    "pad_token_id": None,
}
EXPERTS = {"moe_intermediate_size": 8, "num_experts": 4, "num_experts_per_tok": 2}
FAMILIES = {
    "Mixtral": {"num_local_experts": 4},
    "Qwen2Moe": {**EXPERTS, "shared_expert_intermediate_size": 8},
    "Qwen3Moe": {**EXPERTS, "head_dim": 8},
    "Olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
}


def make(family):
    import transformers

    config = getattr(transformers, f"{family}Config")(**{**SMALL, **FAMILIES[family]})
    return getattr(transformers, f"{family}ForCausalLM")(config)


def batch():
    inputs = torch.randint(61, (2, 9))
    labels = inputs.clone()
    labels[:, :4] = -100
    return inputs, labels


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def train(model, inputs, labels, loss_type, fused, num_items=10):
    """One forward and backward as a transformers Trainer does it with a `compute_loss_func`."""
    loss = TrainerLoss(LossConfig.parse(loss_type, {"fused": fused}))
    loss.attach(model)
    model.zero_grad()
    batch = {"input_ids": inputs, "labels": labels}
    with loss.forward(model, batch, num_items_in_batch=num_items) as plain:
        outputs = model(**{key: value for key, value in plain.items() if key != "labels"})
        value = loss(outputs, plain["labels"], num_items)
    value.backward()
    loss.end_step("cpu")
    return loss, value.detach(), gradients(model)


def plain_training(model, inputs, labels, num_items=10):
    model.zero_grad()
    outputs = model(input_ids=inputs, labels=labels, num_items_in_batch=num_items)
    outputs.loss.backward()
    return outputs, gradients(model)


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, grad in found.items():
        torch.testing.assert_close(grad, expected[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_sft_is_plain_training_and_dft_keeps_the_router_loss(family, fused):
    model = make(family)
    inputs, labels = batch()
    outputs, expected = plain_training(model, inputs, labels)
    router = 0.5 * outputs.aux_loss.detach()
    loss, value, found = train(model, inputs, labels, "sft", fused)
    torch.testing.assert_close(value, outputs.loss.detach(), rtol=1e-6, atol=1e-6)
    assert_same(found, expected)
    assert loss.pop_window("train").scalars()["aux_loss"] == pytest.approx(float(router), rel=1e-6)
    assert float(router) > 0.1

    loss, value, found = train(model, inputs, labels, "dft", fused)
    model.zero_grad()
    again = model(input_ids=inputs)
    own = logits_loss(again.logits, labels, objective="dft", num_items_in_batch=10).loss
    (own + 0.5 * again.aux_loss).backward()
    torch.testing.assert_close(value, own.detach() + router, rtol=1e-6, atol=1e-6)
    assert_same(found, gradients(model))
    assert "_loss_function" not in vars(model), "the model's loss function was not given back"


@pytest.mark.parametrize("fused", [True, False])
def test_evaluation_means_what_the_model_says(fused):
    model = make("Mixtral").eval()
    inputs, labels = batch()
    loss = TrainerLoss(LossConfig.parse("dft", {"fused": fused}))
    loss.attach(model)
    with torch.no_grad():
        with loss.forward(model, {"input_ids": inputs, "labels": labels}, num_items_in_batch=None) as plain:
            value = loss(model(input_ids=inputs), plain["labels"])
        expected = model(input_ids=inputs, labels=labels).loss
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)


def test_the_orthogonality_term_of_adalora_is_kept():
    from peft import AdaLoraConfig, get_peft_model
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = {key: value for key, value in SMALL.items() if "router" not in key}
    adapter = AdaLoraConfig(
        target_modules=["q_proj", "v_proj"], total_step=10, tinit=1, tfinal=1, task_type="CAUSAL_LM"
    )
    model = get_peft_model(Qwen2ForCausalLM(Qwen2Config(**config)), adapter)
    inputs, labels = batch()
    outputs, expected = plain_training(model, inputs, labels)
    for fused in (True, False):
        loss, value, found = train(model, inputs, labels, "sft", fused)
        torch.testing.assert_close(value, outputs.loss.detach(), rtol=1e-6, atol=1e-6)
        assert_same(found, expected)
        assert loss.pop_window("train").scalars()["aux_loss"] > 1


def test_a_model_that_adds_nothing_logs_nothing():
    from transformers import Qwen2Config, Qwen2ForCausalLM

    model = Qwen2ForCausalLM(Qwen2Config(**{key: value for key, value in SMALL.items() if "router" not in key}))
    loss, _, _ = train(model, *batch(), "dft", True)
    assert "aux_loss" not in loss.pop_window("train").scalars()


def test_a_term_within_the_loss_function_is_refused():
    model = make("Mixtral")
    original = model.loss_function
    model.loss_function = lambda logits, labels, vocab_size, **kw: (
        original(logits, labels, vocab_size, **kw) + 1e-4 * logits.logsumexp(-1).square().mean()
    )
    with pytest.raises(ConflictError, match="adds a term of its own"):
        train(model, *batch(), "dft", True)


@pytest.mark.parametrize("extra", [0.0, 0.25])
def test_a_model_with_a_cross_entropy_of_its_own_is_refused_if_it_adds_to_it(extra):
    from transformers import Qwen2Config, Qwen2ForCausalLM
    from transformers.modeling_outputs import CausalLMOutputWithPast

    class OwnLoss(Qwen2ForCausalLM):
        def forward(self, input_ids=None, labels=None, **kwargs):
            logits = super().forward(input_ids=input_ids).logits
            if labels is None:
                return CausalLMOutputWithPast(logits=logits)
            loss = nn.CrossEntropyLoss()(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()) + extra
            return CausalLMOutputWithPast(loss=loss, logits=logits)

    model = OwnLoss(Qwen2Config(**{key: value for key, value in SMALL.items() if "router" not in key}))
    if extra:
        with pytest.raises(ConflictError, match=r"OwnLoss adds 0\.25"):
            train(model, *batch(), "dft", False)
    else:
        assert train(model, *batch(), "dft", True)[0].path.name == "fused"


def test_a_model_whose_own_loss_reads_its_logits_takes_the_logits_path():
    from transformers import Qwen2Config, Qwen2ForCausalLM

    class ReadsLogits(Qwen2ForCausalLM):
        def forward(self, input_ids=None, labels=None, **inputs):
            outputs = super().forward(input_ids=input_ids, **inputs)
            if labels is not None:
                size = outputs.logits.shape[-1]
                own = self.loss_function(logits=outputs.logits, labels=labels, vocab_size=size, **inputs)
                outputs.loss = own + self.lm_head.weight.square().mean()
            return outputs

    model = ReadsLogits(Qwen2Config(**{key: value for key, value in SMALL.items() if "router" not in key}))
    inputs, labels = batch()
    outputs, expected = plain_training(model, inputs, labels)
    loss, value, found = train(model, inputs, labels, "sft", "auto")
    assert loss.path.name == "logits" and "needs its logits" in loss.path.reason
    torch.testing.assert_close(value, outputs.loss.detach(), rtol=1e-6, atol=1e-6)
    assert_same(found, expected)
    with pytest.raises(ConflictError, match="needs its logits"):
        train(model, inputs, labels, "sft", True)


@pytest.mark.parametrize("is_reentrant", [True, False])
def test_a_router_loss_that_checkpointing_cuts_off_is_reported_once(is_reentrant, caplog):
    torch.manual_seed(0)
    model = make("Qwen3Moe")
    model.gradient_checkpointing_enable({"use_reentrant": is_reentrant})
    model.enable_input_require_grads()
    loss = TrainerLoss(LossConfig.parse("sft", {"fused": True}))
    loss.attach(model)
    inputs, labels = batch()
    for _ in range(2):
        with loss.forward(model, {"input_ids": inputs, "labels": labels}, num_items_in_batch=10):
            loss(model(input_ids=inputs), labels).backward()
        loss.end_step("cpu")
        assert loss.pop_window("train").aux_loss > 0
    router = model.model.layers[1].mlp.gate.weight.grad.clone()
    model.zero_grad()
    assert len([r for r in caplog.records if "has no gradient" in r.message]) == is_reentrant
    assert router.abs().sum() > 0
