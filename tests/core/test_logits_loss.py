"""`logits_loss` against the float64 textbook, and the properties that must hold for any split of a batch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dft_plugin import OBJECTIVES, get_objective, logits_loss
from dft_plugin.core import reference
from dft_plugin.core.reference import reference_loss
from dft_plugin.errors import InputError, LabelOutOfRangeError

TEXTBOOK = {"sft": reference.sft_weight, "dft": reference.dft_weight}
IGNORE = -100


REFERENCES = {"ref_logps", "ref_logits"}


def random_batch(batch: int, length: int, vocab: int, *, kept: float = 0.6, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, length, vocab, generator=generator, dtype=torch.float64)
    labels = torch.randint(vocab, (batch, length), generator=generator)
    labels[torch.rand(batch, length, generator=generator) > kept] = IGNORE
    return logits, labels


def gradient(logits, labels, **options):
    leaf = logits.clone().requires_grad_()
    output = logits_loss(leaf, labels, **options)
    output.loss.backward()
    return output, leaf.grad


@pytest.mark.parametrize("objective", sorted(TEXTBOOK))
@pytest.mark.parametrize("kept", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("num_items", [None, 17])
def test_equals_the_textbook_in_value_and_gradient(objective, kept, num_items):
    logits, labels = random_batch(1, 7, 11, kept=kept)
    scale = torch.rand(1, 7, dtype=torch.float64)
    output, grad = gradient(logits, labels, objective=objective, num_items_in_batch=num_items, token_scale=scale)
    # hidden = logits and an identity head turn the textbook's linear loss into a loss on logits
    truth = reference_loss(
        logits[0, :-1],
        torch.eye(11),
        labels[0, 1:],
        TEXTBOOK[objective],
        num_items=num_items,
        token_scale=scale[0, 1:],
    )
    torch.testing.assert_close(output.loss.detach(), truth.loss, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(grad[0, :-1], truth.grad_hidden, rtol=1e-10, atol=1e-14)
    assert not grad[0, -1].any(), "the last position predicts nothing"


def test_reference_gradients_are_those_of_finite_differences():
    generator = torch.Generator().manual_seed(3)
    hidden, weight = torch.randn(3, 4, generator=generator), torch.randn(5, 4, generator=generator)
    bias, labels = torch.randn(5, generator=generator), torch.tensor([1, IGNORE, 4])
    options = {"bias": bias, "logit_scale": 0.7, "logit_softcap": 2.0}
    truth = reference_loss(hidden, weight, labels, reference.dft_weight, **options)
    # the weight is held constant: freeze it at the point of evaluation before differencing
    frozen = {}

    def freeze(probs, target):
        return frozen.setdefault(target, float(probs[target]))

    reference_loss(hidden, weight, labels, freeze, **options)
    step = 1e-6
    for name, grad in (("hidden", truth.grad_hidden), ("weight", truth.grad_weight), ("bias", truth.grad_bias)):
        source = {"hidden": hidden, "weight": weight, "bias": bias}[name].double()
        for index in ((0, 0), (2, 3)) if source.dim() == 2 else ((1,), (4,)):
            values = []
            for sign in (1, -1):
                moved = source.clone()
                moved[index] += sign * step
                arguments = {"hidden": hidden, "weight": weight, **options, name: moved}
                values.append(reference_loss(labels=labels, token_weight=freeze, **arguments).loss)
            assert float(values[0] - values[1]) / (2 * step) == pytest.approx(float(grad[index]), rel=1e-6, abs=1e-9)


def test_dft_gradient_is_that_of_one_minus_mean_p():
    logits, labels = random_batch(2, 9, 13)
    _, grad = gradient(logits, labels, objective="dft")
    leaf = logits.clone().requires_grad_()
    kept = labels[:, 1:] != IGNORE
    probs = leaf[:, :-1][kept].softmax(-1).gather(1, labels[:, 1:][kept, None])
    (1 - probs.mean()).backward()
    torch.testing.assert_close(grad, leaf.grad, rtol=1e-10, atol=1e-14)


def test_sft_is_torch_cross_entropy_to_the_bit():
    logits, labels = random_batch(2, 9, 13)
    output = logits_loss(logits.float(), labels, objective="sft")
    kept = labels[:, 1:] != IGNORE
    expected = torch.nn.functional.cross_entropy(
        logits.float()[:, :-1][kept], labels[:, 1:][kept], reduction="none"
    ).sum() / int(kept.sum())
    assert torch.equal(output.loss, expected)
    assert torch.equal(output.plain_loss, expected)


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(2, 5),
    length=st.integers(2, 9),
    seed=st.integers(0, 99),
    # what needs `sequence_nll` takes the batch's own statistic in a call of its own, by its definition
    objective=st.sampled_from(
        [name for name in OBJECTIVES if not get_objective(name).needs & {*REFERENCES, "sequence_nll"}]
    ),
)
def test_splitting_padding_and_permuting_a_batch_change_nothing(batch, length, seed, objective):
    logits, labels = random_batch(batch, length, 7, seed=seed)
    num_items = max(int((labels[:, 1:] != IGNORE).sum()), 1)
    whole, grad = gradient(logits, labels, objective=objective, num_items_in_batch=num_items)
    parts = [
        gradient(logits[i : i + 1], labels[i : i + 1], objective=objective, num_items_in_batch=num_items)
        for i in range(batch)
    ]
    torch.testing.assert_close(sum(part.loss for part, _ in parts), whole.loss, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(torch.cat([g for _, g in parts]), grad, rtol=1e-12, atol=1e-14)

    padded = torch.cat([logits, torch.full_like(logits[:, :2], float("nan"))], dim=1)
    padded_labels = torch.cat([labels, torch.full_like(labels[:, :2], IGNORE)], dim=1)
    output, padded_grad = gradient(padded, padded_labels, objective=objective, num_items_in_batch=num_items)
    torch.testing.assert_close(output.loss, whole.loss, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(padded_grad[:, :length], grad, rtol=1e-12, atol=1e-14)
    assert not padded_grad[:, length:].any(), "a NaN in a masked row leaked"

    order = torch.randperm(batch, generator=torch.Generator().manual_seed(seed))
    output, permuted = gradient(logits[order], labels[order], objective=objective, num_items_in_batch=num_items)
    torch.testing.assert_close(output.loss, whole.loss, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(permuted, grad[order], rtol=1e-12, atol=1e-14)


def test_shifted_labels_give_the_same_loss():
    logits, labels = random_batch(2, 6, 7)
    shifted = torch.cat([labels[:, 1:], torch.full((2, 1), IGNORE)], dim=1)
    aligned = logits_loss(logits, labels)
    already = logits_loss(logits, shifted, shift=False)
    assert torch.equal(aligned.loss, already.loss)
    assert aligned.token_nll.shape == (2, 5) and already.token_nll.shape == (2, 6)


def test_all_masked_is_a_zero_with_a_graph():
    logits = torch.full((2, 4, 5), float("nan"), requires_grad=True)
    output = logits_loss(logits, torch.full((2, 4), IGNORE), num_items_in_batch=12)
    output.loss.backward()
    assert output.loss == 0 and output.num_tokens == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_outputs_are_float32_detached_and_zero_where_ignored():
    logits, labels = random_batch(2, 6, 7)
    output = logits_loss(logits.bfloat16().requires_grad_(), labels)
    for values in (output.token_nll, output.token_weight):
        assert values.dtype == torch.float32 and not values.requires_grad and values.shape == (2, 5)
        assert not values[labels[:, 1:] == IGNORE].any()
    kept = output.loss_mask
    torch.testing.assert_close(output.token_weight[kept], (-output.token_nll[kept]).exp())
    assert output.num_tokens == int(kept.sum()) and output.loss.dtype == torch.float32


def test_confident_tokens_keep_their_gradient_in_bfloat16():
    logits = torch.tensor([[[7.0, 0.0, 0.0], [0.0, 0.0, 0.0]]], dtype=torch.bfloat16)
    output, grad = gradient(logits, torch.tensor([[IGNORE, 0]]), objective="sft")
    p = logits[0, 0].double().softmax(0)[0]
    assert float(output.token_nll[0, 0]) == pytest.approx(float(-p.log()), rel=1e-4)
    assert float(grad[0, 0, 0]) == pytest.approx(float(p - 1), rel=1e-2)


@pytest.mark.parametrize("label", [7, -1, 10**6])
def test_labels_outside_the_vocabulary_are_refused(label):
    with pytest.raises(LabelOutOfRangeError, match="vocabulary has 7 rows"):
        logits_loss(torch.zeros(1, 3, 7), torch.tensor([[0, label, 1]]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": torch.zeros(1, 2, dtype=torch.long)}, "leading dimensions"),
        ({"labels": torch.zeros(1, 3)}, "dtype"),
        ({"token_scale": torch.ones(1, 2)}, "token_scale"),
        ({"num_items_in_batch": 0}, "must be positive"),
        ({"num_items_in_batch": torch.tensor([3, 4])}, "torchrun"),
    ],
)
def test_inputs_that_cannot_be_right_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        logits_loss(**{"logits": torch.zeros(1, 3, 7), "labels": torch.ones(1, 3, dtype=torch.long), **arguments})
