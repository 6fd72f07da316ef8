"""`linear_loss` against the float64 textbook in value and every gradient, and the splits that must not matter."""

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dft_plugin import Objective, linear_loss, logits_loss
from dft_plugin.core import reference
from dft_plugin.core.chunked_linear import even_chunks
from dft_plugin.core.reference import reference_loss
from dft_plugin.errors import InputError, LabelOutOfRangeError

TEXTBOOK = {"sft": reference.sft_weight, "dft": reference.dft_weight}
IGNORE = -100
T, H, V = 13, 7, 29  # odd on purpose: no block or chunk divides them


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Matrices this small only make threads wait for each other."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@dataclass(frozen=True)
class EntropyWeight(Objective):
    """Entropy over ln V."""

    name = "entropy"
    needs = frozenset({"entropy"})

    def weight(self, tokens):
        return tokens.entropy / torch.tensor(V).log()


def entropy_weight(probs, target):
    return float(torch.special.entr(probs).sum() / torch.tensor(V).log())


class Batch(NamedTuple):
    hidden: torch.Tensor
    weight: torch.Tensor
    labels: torch.Tensor
    bias: torch.Tensor
    token_scale: torch.Tensor


def random_batch(shape=(T,), *, kept=0.6, dtype=torch.float64, seed=0, vocab=V) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(vocab, shape, generator=generator)
    labels[torch.rand(shape, generator=generator) > kept] = IGNORE

    def normal(*size):
        return torch.randn(*size, generator=generator, dtype=torch.float64).to(dtype)

    scale = torch.rand(shape, generator=generator)
    return Batch(normal(*shape, H), normal(vocab, H), labels, normal(vocab), scale)


def differentiate(hidden, weight, labels, *, bias=None, upstream=1.0, **options):
    leaves = [None if x is None else x.clone().requires_grad_() for x in (hidden, weight, bias)]
    output = linear_loss(leaves[0], leaves[1], labels, bias=leaves[2], **options)
    (upstream * output.loss).backward()
    return output, [None if x is None else x.grad for x in leaves]


def assert_same(actual, expected, *, rtol=1e-9, atol=1e-12):
    output, grads = actual
    truth, true_grads = expected
    torch.testing.assert_close(output.loss.detach(), truth.loss.detach(), rtol=rtol, atol=atol)
    for grad, true_grad in zip(grads, true_grads, strict=True):
        torch.testing.assert_close(grad, true_grad, rtol=rtol, atol=atol)


def textbook(batch: Batch, token_weight, **options):
    truth = reference_loss(*batch[:3], token_weight, bias=batch.bias, token_scale=batch.token_scale, **options)
    return truth, [truth.grad_hidden, truth.grad_weight, truth.grad_bias]


@pytest.mark.parametrize("objective", [*sorted(TEXTBOOK), EntropyWeight()], ids=str)
@pytest.mark.parametrize("kept", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("logit_scale", "logit_softcap"), [(1.0, None), (0.3, None), (-1.7, 2.5)])
def test_equals_the_textbook_in_value_and_every_gradient(objective, kept, logit_scale, logit_softcap):
    batch = random_batch(kept=kept)
    options = {"logit_scale": logit_scale, "logit_softcap": logit_softcap}
    token_weight = TEXTBOOK[objective] if isinstance(objective, str) else entropy_weight
    for num_items, chunk_size in itertools.product((None, 17), (1, 2, 5, T, None)):
        actual = differentiate(
            *batch[:3],
            bias=batch.bias,
            token_scale=batch.token_scale,
            objective=objective,
            num_items_in_batch=num_items,
            shift=False,
            chunk_size=chunk_size,
            **options,
        )
        assert_same(actual, textbook(batch, token_weight, num_items=num_items, **options))


def test_the_gradient_of_the_loss_multiplies_every_gradient():
    batch = random_batch()
    _, grads = differentiate(*batch[:3], bias=batch.bias)
    _, tripled = differentiate(*batch[:3], bias=batch.bias, upstream=3.0)
    for grad, other in zip(grads, tripled, strict=True):
        torch.testing.assert_close(other, 3 * grad)


@pytest.mark.parametrize("shift", [True, False])
def test_every_field_equals_that_of_logits_loss(shift):
    batch = random_batch((2, 3, T))
    options = {"shift": shift, "token_scale": batch.token_scale, "objective": "dft"}
    fused = linear_loss(*batch[:3], bias=batch.bias, **options)
    plain = logits_loss(batch.hidden @ batch.weight.T + batch.bias, batch.labels, **options)
    assert fused.token_nll.shape == (2, 3, T - shift)
    assert fused.token_nll.dtype == fused.token_weight.dtype == torch.float32
    for field in ("loss", "token_nll", "token_weight", "loss_mask", "plain_loss"):
        torch.testing.assert_close(getattr(fused, field), getattr(plain, field))
    assert fused.num_tokens == plain.num_tokens == int(fused.loss_mask.sum())


def test_entropy_is_computed_only_where_an_objective_needs_it():
    seen = []

    class Curious(EntropyWeight):
        def weight(self, tokens):
            seen.append(tokens.entropy)
            return torch.ones_like(tokens.token_logps)

    class Content(Curious):
        needs = frozenset()

    batch = random_batch(kept=1.0)
    linear_loss(*batch[:3], objective=Curious())
    linear_loss(*batch[:3], objective=Content())
    assert seen[0].shape == (T - 1,)
    assert seen[1] is None


def test_entropy_survives_logits_of_minus_infinity():
    batch = random_batch(kept=1.0)
    bias = torch.zeros(V, dtype=torch.float64)
    bias[5] = -torch.inf
    labels = batch.labels.where(batch.labels != 5, 6)
    options = {"objective": EntropyWeight(), "shift": False}
    output, grads = differentiate(batch.hidden, batch.weight, labels, bias=bias, **options)
    keep = [v for v in range(V) if v != 5]
    shorter = torch.where(labels > 5, labels - 1, labels)
    truth = linear_loss(batch.hidden, batch.weight[keep], shorter, **options)
    torch.testing.assert_close(output.loss.detach(), truth.loss)
    plain = logits_loss(batch.hidden @ batch.weight.T + bias, labels, **options)
    torch.testing.assert_close(output.loss.detach(), plain.loss)
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("needs", list(itertools.product([False, True], repeat=3)))
def test_exactly_the_gradients_that_are_asked_for_exist(needs):
    batch = random_batch()
    _, expected = differentiate(*batch[:3], bias=batch.bias)
    leaves = [
        x.clone().requires_grad_(need) for x, need in zip((batch.hidden, batch.weight, batch.bias), needs, strict=True)
    ]
    loss = linear_loss(leaves[0], leaves[1], batch.labels, bias=leaves[2]).loss
    assert loss.requires_grad is any(needs)
    if any(needs):
        loss.backward()
    for leaf, need, grad in zip(leaves, needs, expected, strict=True):
        if need:
            torch.testing.assert_close(leaf.grad, grad)
        else:
            assert leaf.grad is None


def test_tied_embeddings_receive_both_gradients():
    batch = random_batch(kept=1.0)
    tokens = batch.labels
    tied = batch.weight.clone().requires_grad_()
    linear_loss(tied[tokens].tanh(), tied, tokens).loss.backward()
    truth = batch.weight.clone().requires_grad_()
    logits_loss(truth[tokens].tanh() @ truth.T, tokens).loss.backward()
    torch.testing.assert_close(tied.grad, truth.grad)


def test_masked_rows_of_nan_do_not_leak():
    batch = random_batch()
    expected = differentiate(*batch[:3], shift=False)
    poisoned = batch.hidden.clone()
    poisoned[batch.labels == IGNORE] = torch.nan
    assert_same(differentiate(poisoned, batch.weight, batch.labels, shift=False), expected)


@pytest.mark.parametrize("shape", [(4,), (1,), (2, 0)])
def test_a_batch_without_labels_gives_a_zero_with_a_graph(shape):
    hidden = torch.full((*shape, H), torch.nan)
    labels = torch.full(shape, IGNORE)
    output, grads = differentiate(hidden, torch.randn(V, H), labels, bias=torch.randn(V))
    assert output.loss.item() == 0
    assert output.num_tokens == 0
    for grad in grads:
        assert grad is not None
        assert not grad.any()


@pytest.fixture
def _fresh_memory_is_nan():
    torch.use_deterministic_algorithms(True)  # fills what is left uninitialised
    assert torch.empty(2).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("_fresh_memory_is_nan")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kept", [0.0, 0.1, 1.0])
def test_no_gradient_holds_what_was_in_memory_before(dtype, kept):
    batch = random_batch(dtype=dtype, kept=kept)
    for chunk_size in (1000, 3):
        _, grads = differentiate(*batch[:3], bias=batch.bias, chunk_size=chunk_size)
        assert all(grad.isfinite().all() for grad in grads)


# Splits that must not matter ------------------------------------------------------------------------------------

SEEDS = st.integers(0, 2**16)


@settings(deadline=None, max_examples=25)
@given(seed=SEEDS, chunk_size=st.integers(1, 30), kept=st.sampled_from([0.1, 0.5, 1.0]))
def test_chunking_changes_nothing(seed, chunk_size, kept):
    batch = random_batch((2, T), seed=seed, kept=kept)
    whole = differentiate(*batch[:3], bias=batch.bias, chunk_size=1000)
    assert_same(differentiate(*batch[:3], bias=batch.bias, chunk_size=chunk_size), whole)


@settings(deadline=None, max_examples=25)
@given(seed=SEEDS, padding=st.integers(1, 5))
def test_padding_changes_nothing(seed, padding):
    batch = random_batch((2, T), seed=seed)
    loss, (grad_hidden, *grads) = differentiate(*batch[:3])
    hidden = torch.cat((batch.hidden, torch.randn(2, padding, H, dtype=torch.float64)), dim=1)
    labels = torch.cat((batch.labels, torch.full((2, padding), IGNORE)), dim=1)
    padded, (padded_grad, *padded_grads) = differentiate(hidden, batch.weight, labels)
    assert not padded_grad[:, T:].any()
    assert_same((padded, [padded_grad[:, :T], *padded_grads]), (loss, [grad_hidden, *grads]))


@settings(deadline=None, max_examples=25)
@given(seed=SEEDS, order=st.permutations(range(4)))
def test_the_order_of_sequences_changes_nothing(seed, order):
    batch = random_batch((4, 5), seed=seed)
    loss, (grad_hidden, *grads) = differentiate(*batch[:3], chunk_size=3)
    permuted = differentiate(batch.hidden[order], batch.weight, batch.labels[order], chunk_size=3)
    assert_same(permuted, (loss, [grad_hidden[order], *grads]))


@settings(deadline=None, max_examples=25)
@given(seed=SEEDS, cut=st.integers(0, 4))
def test_micro_batches_add_up_to_the_batch(seed, cut):
    batch = random_batch((4, 5), seed=seed)
    whole, (grad_hidden, grad_weight, _) = differentiate(*batch[:3])
    num_items = torch.tensor(max(whole.num_tokens, 1))
    parts = [
        differentiate(batch.hidden[rows], batch.weight, batch.labels[rows], num_items_in_batch=num_items)
        for rows in (slice(0, cut), slice(cut, 4))
        if batch.labels[rows].numel()
    ]
    torch.testing.assert_close(sum(output.loss.detach() for output, _ in parts), whole.loss.detach())
    torch.testing.assert_close(torch.cat([grads[0] for _, grads in parts]), grad_hidden)
    torch.testing.assert_close(sum(grads[1] for _, grads in parts), grad_weight)


@given(num_rows=st.integers(0, 200), chunk_size=st.integers(1, 50))
def test_chunks_are_few_even_and_complete(num_rows, chunk_size):
    chunks = even_chunks(num_rows, chunk_size)
    sizes = [chunk.stop - chunk.start for chunk in chunks]
    assert [row for chunk in chunks for row in range(chunk.start, chunk.stop)] == list(range(num_rows))
    assert len(chunks) == -(-num_rows // chunk_size)
    assert not sizes or max(sizes) - min(sizes) <= 1


@given(num_rows=st.integers(0, 500), num_units=st.integers(1, 4))
def test_chunks_end_at_whole_units(num_rows, num_units):
    chunks = even_chunks(num_rows, 32 * num_units, unit=32)
    assert [row for chunk in chunks for row in range(chunk.start, chunk.stop)] == list(range(num_rows))
    assert len(chunks) == -(-num_rows // (32 * num_units))
    assert all(chunk.stop % 32 == 0 for chunk in chunks[:-1])
    assert all(0 < chunk.stop - chunk.start <= 32 * num_units for chunk in chunks)


# What is refused ------------------------------------------------------------------------------------------------


def valid(**changes):
    arguments = {"hidden": torch.randn(T, H), "weight": torch.randn(V, H), "labels": torch.zeros(T, dtype=torch.long)}
    return arguments | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": torch.randn(V, H + 1)}, r"weight has shape \(29, 8\).*\(V, 7\)"),
        ({"weight": torch.empty(0)}, "sharded by ZeRO-3"),
        ({"labels": torch.zeros(T + 1, dtype=torch.long)}, "hidden .* and labels"),
        ({"hidden": torch.randn(H), "labels": torch.tensor(1)}, "hidden .* and labels"),
        ({"labels": torch.zeros(T)}, "integer token ids"),
        ({"hidden": torch.ones(T, H, dtype=torch.long)}, "hidden has dtype torch.int64"),
        ({"weight": torch.ones(V, H, dtype=torch.int8)}, "weight has dtype torch.int8"),
        ({"hidden": torch.randn(T, H).bfloat16()}, "outside autocast they must be equal"),
        ({"hidden": torch.randn(T, H, device="meta")}, "hidden is a meta tensor"),
        ({"bias": torch.randn(V + 1)}, "bias has shape"),
        ({"token_scale": torch.ones(T - 1)}, "token_scale has shape"),
        ({"num_items_in_batch": 0}, "must be positive"),
        ({"chunk_size": 0}, "chunk_size=0"),
        ({"chunk_size": 1.5}, "chunk_size=1.5"),
        ({"logit_scale": float("nan")}, "logit_scale"),
        ({"logit_scale": torch.tensor(2.0, requires_grad=True)}, "logit_scale"),
        ({"logit_softcap": 0.0}, "logit_softcap"),
    ],
)
def test_inputs_that_cannot_be_right_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        linear_loss(**valid(**changes))


@pytest.mark.parametrize("label", [-1, V])
def test_labels_outside_the_vocabulary_are_refused(label):
    labels = torch.zeros(T, dtype=torch.long)
    labels[3] = label
    with pytest.raises(LabelOutOfRangeError, match="vocabulary has 29 rows"):
        linear_loss(**valid(labels=labels))


def test_dtensors_are_refused_with_the_way_out():
    class DTensor(torch.Tensor):
        pass

    weight = torch.randn(V, H).as_subclass(DTensor)
    with pytest.raises(InputError, match="weight is a DTensor.*full_tensor"):
        linear_loss(**valid(weight=weight))
