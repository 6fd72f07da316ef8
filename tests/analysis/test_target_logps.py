"""log p of every target of real tiny models, against the log_softmax of their float64 logits."""

import copy

import pytest
import torch

from dft_plugin.analysis import target_logps as module
from dft_plugin.analysis.target_logps import NotFiniteError, TargetScorer, target_logps
from dft_plugin.analysis.token_probs import token_probs
from dft_plugin.errors import InputError, LabelOutOfRangeError
from dft_plugin.training.loss_head import HeadChoice

SHAPE = {
    "vocab_size": 61,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.5,
    "pad_token_id": 0,
}


def make(name):
    import transformers

    torch.manual_seed(0)
    options = {"final_logit_softcapping": 3.0} if name == "Gemma2" else {}
    config = getattr(transformers, f"{name}Config")(**SHAPE, **options)
    return getattr(transformers, f"{name}ForCausalLM")(config).eval()


@pytest.fixture(params=["Qwen2", "Gemma2"])
def model(request):
    return make(request.param)


@pytest.fixture
def batch():
    """Two sequences of unequal length, right-padded, with masked prompts."""
    input_ids = torch.randint(1, 61, (2, 9), generator=torch.Generator().manual_seed(1))
    labels = input_ids.clone()
    labels[:, :4] = -100
    labels[0, 6] = -100
    mask = torch.ones_like(input_ids)
    labels[1, 7:], mask[1, 7:] = -100, 0
    return {"input_ids": input_ids, "attention_mask": mask}, labels


def expected(model, inputs, labels):
    with torch.no_grad():
        logits = copy.deepcopy(model).double()(**inputs).logits
    assert logits.dtype == torch.float64
    logps = logits[:, :-1].log_softmax(-1).gather(-1, labels[:, 1:].clamp(min=0)[..., None])[..., 0]
    return logps.where(labels[:, 1:] != -100, 0.0)


@pytest.mark.parametrize("path", ["fused", "logits"])
def test_equals_the_log_softmax_in_float64(model, batch, path):
    inputs, labels = batch
    if path == "logits":
        model.lm_head.forward = model.lm_head.forward  # as another library that replaces it
    score = TargetScorer(model)
    for _ in range(2):  # the second batch is neither proven nor verified again
        logps = score(inputs, labels)
        assert (logps.shape, logps.dtype, logps.device.type) == ((2, 8), torch.float64, "cpu")
        torch.testing.assert_close(logps, expected(model, inputs, labels), rtol=2e-5, atol=2e-6)
        is_ignored = labels[:, 1:] == -100
        assert not logps[is_ignored].signbit().any() and (logps[~is_ignored] < 0).all()
    assert score.path == path and bool(score.path_reason) == (path == "logits")
    torch.testing.assert_close(target_logps(model, inputs, labels), logps, rtol=0, atol=0)


def test_the_fused_path_makes_no_logits(model, batch):
    inputs, labels = batch
    score = TargetScorer(model)
    score(inputs, labels)
    shapes = []
    model.lm_head.register_forward_hook(lambda head, args, out: shapes.append(out.shape))
    score(inputs, labels)
    assert shapes == [torch.Size([])]


def test_a_change_of_the_logits_that_is_unknown_takes_the_logits_path(batch):
    inputs, labels = batch
    model = make("Qwen2")
    model.register_forward_hook(lambda module, args, out: setattr(out, "logits", out.logits.sin() * 5))
    score = TargetScorer(model)
    logps = score(inputs, labels)
    assert score.path == "logits" and "does not know" in score.path_reason
    torch.testing.assert_close(logps, expected(model, inputs, labels), rtol=2e-5, atol=2e-6)


def test_token_probs_are_those_of_the_targets(model, batch):
    inputs, labels = batch
    ids = inputs["input_ids"]
    logps = expected(model, {"input_ids": ids}, labels)[labels[:, 1:] != -100]
    found = token_probs(model, [(ids[:1], labels[:1]), (ids[1:], labels[1:])])
    assert found.num_tokens == len(logps)
    assert found.sum_nll == pytest.approx(-float(logps.sum()), rel=2e-5)
    assert found.sum_p == pytest.approx(float(logps.exp().sum()), rel=2e-5)
    assert found.histogram() == torch.histc(logps.exp(), 20, 0, 1).long().tolist()
    with pytest.raises(InputError, match="no target token"):
        token_probs(model, [(ids, torch.full_like(ids, -100))])


@pytest.mark.parametrize("path", ["fused", "logits"])
def test_what_is_not_finite_is_refused_with_its_sequence(batch, path, monkeypatch):
    inputs, labels = batch
    model = make("Qwen2")
    if path == "logits":
        monkeypatch.setattr(module, "find_head", lambda model: HeadChoice(None, "a test"))
    score = TargetScorer(model)
    score(inputs, labels)
    token = int(inputs["input_ids"][1, 4])
    assert token not in inputs["input_ids"][0]
    with torch.no_grad():
        model.model.embed_tokens.weight[token] = torch.inf
    with pytest.raises(NotFiniteError, match=r"sequence 1 .*not finite in float32") as caught:
        score(inputs, labels)
    assert caught.value.row == 1


def test_refusals(batch):
    inputs, labels = batch
    model = make("Qwen2")
    with pytest.raises(InputError, match=r"call \.eval\(\)"):
        target_logps(model.train(), inputs, labels)
    model.eval()
    with pytest.raises(LabelOutOfRangeError):
        target_logps(model, inputs, labels.masked_fill(labels == -100, 61))
