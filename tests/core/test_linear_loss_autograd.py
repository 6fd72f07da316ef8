"""`linear_loss` as a citizen of autograd: gradcheck, one backward, checkpointing, evaluation, autocast."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from dft_plugin import linear_loss
from dft_plugin.core import chunk_gradients, chunk_product

T, H, V = 11, 6, 13


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Matrices this small only make threads wait for each other."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(2, T, H, generator=generator)
    weight = torch.randn(V, H, generator=generator)
    labels = torch.randint(V, (2, T), generator=generator)
    labels[0, :4] = -100
    return hidden, weight, labels


@pytest.fixture
def products(monkeypatch):
    """Names of the matrix products of the engine, in order."""
    called = []

    class Torch:
        def __getattr__(self, name):
            if name in ("mm", "addmm"):
                called.append(name)
            return getattr(torch, name)

    for module in (chunk_product, chunk_gradients):
        monkeypatch.setattr(module, "torch", Torch())
    original = torch.Tensor.addmm_
    monkeypatch.setattr(torch.Tensor, "addmm_", lambda *a, **k: called.append("addmm_") or original(*a, **k))
    return called


@pytest.mark.parametrize("softcap", [None, 3.0])
def test_gradcheck(batch, softcap):
    hidden, weight, labels = batch[0][:, :6], batch[1], batch[2][:, :6]
    inputs = [x.double().requires_grad_() for x in (hidden, weight, torch.randn(V))]

    def sft(hidden, weight, bias):  # weights are detached, so only w = 1 has its own loss as antiderivative
        options = {"objective": "sft", "logit_scale": 0.7, "logit_softcap": softcap, "chunk_size": 4}
        return linear_loss(hidden, weight, labels, bias=bias, **options).loss

    assert torch.autograd.gradcheck(sft, inputs)


def test_gradient_of_dft_is_that_of_one_minus_the_mean_probability(batch):
    hidden, weight, labels = batch
    hidden = hidden.double().requires_grad_()
    (grad,) = torch.autograd.grad(linear_loss(hidden, weight.double(), labels).loss, hidden)
    kept = labels[:, 1:] != -100
    probs = (hidden @ weight.double().T).softmax(-1)[:, :-1][kept]
    target_probs = probs.gather(1, labels[:, 1:][kept][:, None])
    (expected,) = torch.autograd.grad(1 - target_probs.mean(), hidden)
    torch.testing.assert_close(grad, expected)


def test_nothing_but_the_loss_carries_a_graph(batch):
    hidden, weight, labels = batch
    output = linear_loss(hidden.requires_grad_(), weight, labels)
    assert output.loss.requires_grad
    assert not output.token_nll.requires_grad
    assert not output.token_weight.requires_grad
    assert not output.plain_loss.requires_grad


@pytest.mark.parametrize(("needs", "expected"), [((1, 1), 3), ((1, 0), 2), ((0, 1), 2), ((0, 0), 1)])
def test_matrix_products_per_chunk(batch, products, needs, expected):
    hidden, weight, labels = batch
    linear_loss(hidden.requires_grad_(bool(needs[0])), weight.requires_grad_(bool(needs[1])), labels, chunk_size=100)
    assert len(products) == expected


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_evaluation_makes_no_gradient(batch, products, context):
    hidden, weight, labels = batch
    expected = linear_loss(hidden, weight, labels).loss
    products.clear()
    with context():
        output = linear_loss(hidden.requires_grad_(), weight.requires_grad_(), labels, chunk_size=100)
    assert products == ["mm"]
    assert not output.loss.requires_grad
    torch.testing.assert_close(output.loss, expected)


def test_second_backward_is_torchs_own_error_once_the_graph_is_freed(batch):
    hidden, weight, labels = batch
    loss = linear_loss(hidden.requires_grad_(), weight, labels).loss
    loss.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


def test_second_backward_through_a_retained_graph_doubles_or_refuses(batch):
    hidden, weight, labels = batch
    loss = linear_loss(hidden.requires_grad_(), weight.requires_grad_(), labels).loss
    loss.backward(retain_graph=True)
    once = [hidden.grad.clone(), weight.grad.clone()]
    (2 * loss).backward(retain_graph=True)
    torch.testing.assert_close([hidden.grad, weight.grad], [3 * grad for grad in once])
    with pytest.raises(RuntimeError, match="second backward through one linear_loss"):
        loss.backward()


def test_gradients_of_gradients_are_refused(batch):
    hidden, weight, labels = batch
    loss = linear_loss(hidden.requires_grad_(), weight, labels).loss
    with pytest.raises(RuntimeError, match="Use logits_loss"):
        torch.autograd.grad(loss, hidden, create_graph=True)


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpointing_changes_nothing(batch, use_reentrant):
    hidden, weight, labels = batch
    grads = []
    for is_checkpointed in (False, True):
        leaves = [x.clone().requires_grad_() for x in (hidden, weight)]

        def model(hidden, weight):
            return linear_loss(hidden.tanh(), weight, labels, chunk_size=3).loss

        loss = checkpoint(model, *leaves, use_reentrant=use_reentrant) if is_checkpointed else model(*leaves)
        (0.5 * loss).backward()
        grads.append([loss.detach(), *(leaf.grad for leaf in leaves)])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equal_calls_give_equal_bits(batch, dtype):
    hidden, weight, labels = batch
    runs = []
    for _ in range(2):
        leaves = [x.to(dtype, copy=True).requires_grad_() for x in (hidden, weight)]
        loss = linear_loss(*leaves, labels, chunk_size=5).loss
        loss.backward()
        runs.append([loss.detach(), *(leaf.grad for leaf in leaves)])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@pytest.mark.parametrize("hidden_dtype", [torch.float32, torch.bfloat16])
def test_autocast_multiplies_in_its_dtype_and_returns_gradients_in_the_parameters(batch, hidden_dtype):
    hidden, weight, labels = batch
    bias = torch.randn(V)
    leaves = [hidden.to(hidden_dtype).requires_grad_(), weight.clone().requires_grad_(), bias.clone().requires_grad_()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = linear_loss(leaves[0], leaves[1], labels, bias=leaves[2], chunk_size=4).loss
    loss.backward()
    assert loss.dtype == torch.float32
    assert [leaf.grad.dtype for leaf in leaves] == [hidden_dtype, torch.float32, torch.float32]
    rounded = [x.detach().bfloat16().double().requires_grad_() for x in leaves]
    truth = linear_loss(rounded[0], rounded[1], labels, bias=rounded[2]).loss
    truth.backward()
    torch.testing.assert_close(loss.double(), truth, rtol=1e-2, atol=0)
    for leaf, other in zip(leaves, rounded, strict=True):
        error = (leaf.grad.double() - other.grad).norm() / other.grad.norm()
        assert 1e-5 < error < 2e-2, "below: not in bfloat16; above: wrong"


def test_autocast_leaves_float64_alone(batch):
    hidden, weight, labels = batch
    expected = linear_loss(hidden.double(), weight.double(), labels).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(linear_loss(hidden.double(), weight.double(), labels).loss, expected)
