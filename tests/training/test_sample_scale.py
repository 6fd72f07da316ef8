"""Weights and means of samples: loss and gradients of the formula in float64, whatever the split and the packing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dft_plugin.config import LossConfig
from dft_plugin.core.label_tags import tag_labels
from dft_plugin.errors import ConflictError, InputError
from dft_plugin.training.trainer_loss import TrainerLoss

VOCAB, T = 7, 6


def textbook(logits, samples, weights, objective, reduction):
    """Loss of the whole optimiser step; `samples` are rows of labels, each one sample."""
    total, num_samples, num_tokens = 0.0, 0, 0
    for row, labels, weight in zip(logits, samples, weights, strict=True):
        kept = [t for t in range(1, len(labels)) if labels[t] != -100]
        if not kept:
            continue
        logps = torch.stack([row[t - 1].log_softmax(-1)[labels[t]] for t in kept])
        losses = -(logps.detach().exp() if objective == "dft" else 1) * logps * weight
        total = total + (losses.mean() if reduction == "sample_mean" else losses.sum())
        num_samples, num_tokens = num_samples + 1, num_tokens + len(kept)
    return total / max(num_samples if reduction == "sample_mean" else num_tokens, 1)


def ours(batches, config):
    """The same through `TrainerLoss`, one micro-batch after another, with the divisor counted as trainers do."""
    loss = TrainerLoss(LossConfig.parse(*config))
    batches = [{"logits": logits, "labels": torch.tensor(labels)} for logits, labels in batches]
    num_items = sum((batch["labels"] != -100).sum() for batch in loss.countable(batches))
    total = 0.0
    for inputs in batches:
        with loss.batch(inputs) as plain:
            total = total + loss({"logits": inputs["logits"]}, plain["labels"], num_items_in_batch=num_items)
    return total


@st.composite
def steps(draw):
    count = draw(st.integers(1, 5))
    label = st.one_of(st.just(-100), st.integers(0, VOCAB - 1))
    samples = [[-100, *draw(st.lists(label, min_size=T - 1, max_size=T - 1))] for _ in range(count)]
    return samples, [draw(st.sampled_from([0.0, 0.5, 1.0, 3.0])) for _ in samples], draw(st.integers(1, count))


@settings(deadline=None, max_examples=40)
@given(
    step=steps(),
    objective=st.sampled_from(["sft", "dft"]),
    reduction=st.sampled_from(["token_mean", "sample_mean"]),
    is_weighted=st.booleans(),
)
def test_accumulation_and_packing_never_change_loss_or_gradient(step, objective, reduction, is_weighted):
    samples, weights, cut = step
    logits = torch.randn(len(samples), T, VOCAB, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits.requires_grad_()
    truth = textbook(logits, samples, weights if is_weighted else [1.0] * len(samples), objective, reduction)
    options = {"reduction": reduction, "fused": False, **({"sample_weight": "w"} if is_weighted else {})}
    if options == {"reduction": "token_mean", "fused": False}:
        tagged = samples
    else:
        tagged = [tag_labels(s, weight=w if is_weighted else None) for s, w in zip(samples, weights, strict=True)]
    packed = [(logits.reshape(1, -1, VOCAB), [[label for sample in tagged for label in sample]])]
    parts = [(logits[:cut], tagged[:cut]), *([(logits[cut:], tagged[cut:])] if cut < len(samples) else [])]
    for batches in (packed, parts):
        found = ours(batches, (objective, options))
        torch.testing.assert_close(found, torch.as_tensor(truth, dtype=found.dtype), rtol=1e-6, atol=1e-12)
        if torch.is_tensor(truth):
            gradients = [torch.autograd.grad(loss, logits, retain_graph=True)[0] for loss in (found, truth)]
            torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-12)


def test_evaluation_is_plain_cross_entropy_over_tokens():
    labels = torch.tensor([tag_labels([-100, 1, 2, 3], weight=5.0), tag_labels([-100, -100, -100, 4], weight=0.0)])
    logits = torch.randn(2, 4, VOCAB, generator=torch.Generator().manual_seed(0))
    loss = TrainerLoss(LossConfig.parse("dft", {"sample_weight": "w", "reduction": "sample_mean"}))
    with torch.no_grad(), loss.batch({"labels": labels}) as plain:
        found = loss({"logits": logits}, plain["labels"])
    shifted = plain["labels"][:, 1:].reshape(-1)
    torch.testing.assert_close(found, torch.nn.functional.cross_entropy(logits[:, :-1].reshape(-1, VOCAB), shifted))


@pytest.mark.parametrize(
    ("options", "weight"), [({"sample_weight": "w"}, None), ({"reduction": "sample_mean"}, 2.0), ({}, 2.0)]
)
def test_data_tokenized_for_other_weights_is_refused(options, weight):
    loss = TrainerLoss(LossConfig.parse("dft", options))
    inputs = {"labels": torch.tensor([tag_labels([-100, 1, 2], weight=weight)])}
    with pytest.raises(InputError), loss.batch(inputs) as plain:
        loss({"logits": torch.zeros(1, 3, VOCAB)}, plain["labels"], num_items_in_batch=2)


def test_contradictions_are_refused():
    with pytest.raises(ConflictError, match="carry one of the two"):
        LossConfig.parse("prift", {"sample_weight": "w"})
