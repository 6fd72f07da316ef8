"""The filtered gradient of hidden states: off by default, sums kept, a small error, exact where that is cheaper."""

import pytest
import torch

from dft_plugin import get_objective, linear_loss
from dft_plugin.core.column_filter import AUTO_BOUND, MAX_KEPT_SHARE, filtered_product
from dft_plugin.core.context import TokenContext
from dft_plugin.errors import InputError

N, H, V = 60, 48, 997


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Matrices this small only make threads wait for each other."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def batch(dtype, *, spread=1.0):
    """Peaked rows over few of the words, as in text; `spread` 0 for rows that know nothing."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(V, H, generator=generator) / H**0.5
    weight[:, 0] -= torch.linspace(-1, 3, V)  # words of any frequency
    labels = torch.randint(40, (N,), generator=generator)
    hidden = torch.randn(N, H, generator=generator) + 2 * torch.rand(N, 1, generator=generator) * weight[labels]
    hidden[:, 0] += 4
    hidden *= spread
    return hidden.to(dtype), weight.to(dtype), labels


def gradients(hidden, weight, labels, **options):
    leaves = [x.clone().requires_grad_() for x in (hidden, weight)]
    output = linear_loss(*leaves, labels, shift=False, **options)
    output.loss.backward()
    return output, leaves[0].grad, leaves[1].grad


OPTIONS = [
    {},
    {"objective": "sft", "logit_scale": 0.8},
    {"logit_softcap": 20.0},
    {"objective": "eaft", "chunk_size": 17},
    {"objective": "dft_geometric_mean"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_only_the_gradient_of_hidden_states_changes_and_little(dtype, options):
    inputs = batch(dtype)
    exact, dh, dw = gradients(*inputs, **options)
    filtered, near_dh, same_dw = gradients(*inputs, gradient_filter=AUTO_BOUND, **options)
    assert filtered.kept_columns < MAX_KEPT_SHARE
    assert exact.kept_columns is None
    assert torch.equal(dw, same_dw)
    for field in ("loss", "token_nll", "token_weight"):
        assert torch.equal(getattr(exact, field).detach(), getattr(filtered, field).detach())
    assert 0 < (near_dh - dh).norm() <= 1e-2 * dh.norm()


FORMULA_TOLERANCES = [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.float16, 2e-3), (torch.bfloat16, 1e-2)]


@pytest.mark.parametrize(("dtype", "tolerance"), FORMULA_TOLERANCES, ids=str)
def test_the_product_is_kept_columns_and_one_outer_product(dtype, tolerance):
    """Its formula in float64, over a vocabulary whose sums are made in several pieces."""
    generator = torch.Generator().manual_seed(0)
    num_words, targets = 9001, torch.arange(8) * 1000
    grad = (4 * torch.randn(8, num_words, generator=generator, dtype=torch.float64)).softmax(1)
    grad[torch.arange(8), targets] -= 1
    grad, projection = grad.to(dtype), torch.randn(num_words, 16, generator=generator).to(dtype)
    factor = torch.rand(8, generator=generator).to(torch.promote_types(dtype, torch.float32))
    row_sums = grad.sum(1, dtype=factor.dtype)
    found = filtered_product(grad, projection, factor, targets, row_sums, bound=AUTO_BOUND)

    grad, projection = grad.double(), projection.double()
    masses = factor.double() @ grad
    masses[targets] = 0
    is_kept = masses > AUTO_BOUND * masses.sum() / num_words
    is_kept[targets] = True
    tail = masses * ~is_kept
    mean_row = tail @ projection / tail.sum()
    expected = grad[:, is_kept] @ projection[is_kept] + grad[:, ~is_kept].sum(1, keepdim=True) * mean_row
    assert found.kept_share == pytest.approx(is_kept.double().mean().item(), rel=1e-2)
    assert (found.product - expected).norm() <= tolerance * expected.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_without_the_option_every_bit_is_that_of_the_exact_pass(dtype):
    inputs = batch(dtype)
    _, dh, dw = gradients(*inputs)
    _, off_dh, off_dw = gradients(*inputs, gradient_filter=None)
    assert torch.equal(dh, off_dh)
    assert torch.equal(dw, off_dw)


@pytest.mark.parametrize("options", [{"logit_softcap": None}, {"logit_softcap": 15.0, "objective": "sft"}], ids=str)
def test_rows_and_columns_keep_their_sums(options):
    """With the identity as the head, the gradient of the hidden states is that of the logits."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(8, V, generator=generator).double() + 8 * (torch.arange(V) % 50 == 0)
    labels = torch.arange(8) * 50
    identity = torch.eye(V, dtype=torch.float64)
    _, exact, _ = gradients(hidden, identity, labels, **options)
    output, found, _ = gradients(hidden, identity, labels, gradient_filter=1.0, **options)
    assert output.kept_columns < MAX_KEPT_SHARE
    torch.testing.assert_close(found.sum(1), exact.sum(1), rtol=1e-9, atol=1e-15)
    torch.testing.assert_close(found.sum(0), exact.sum(0), rtol=1e-9, atol=1e-15)
    torch.testing.assert_close(found[:, labels], exact[:, labels])  # targets stay whatever their mass
    assert not torch.allclose(found, exact)


def test_a_chunk_of_flat_rows_is_computed_exactly():
    inputs = batch(torch.float32, spread=0.0)
    _, dh, _ = gradients(*inputs)
    output, same_dh, _ = gradients(*inputs, gradient_filter=AUTO_BOUND)
    assert output.kept_columns == 1.0
    assert torch.equal(dh, same_dh)


def test_a_low_bound_comes_close_to_the_exact_pass():
    inputs = batch(torch.float64)
    _, dh, _ = gradients(*inputs)
    distances = []
    for bound in (1.0, AUTO_BOUND, AUTO_BOUND / 8):
        _, near_dh, _ = gradients(*inputs, gradient_filter=bound)
        distances.append(float((near_dh - dh).norm() / dh.norm()))
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-3


def test_a_divergence_from_a_reference_is_not_filtered():
    hidden, weight, labels = batch(torch.float32)
    options = {"objective": get_objective("asft"), "context": TokenContext(ref_hidden=hidden + 0.1)}
    _, dh, _ = gradients(hidden, weight, labels, **options)
    output, same_dh, _ = gradients(hidden, weight, labels, gradient_filter=1.0, **options)
    assert output.kept_columns is None
    assert torch.equal(dh, same_dh)


def test_nothing_kept_is_a_zero():
    hidden, weight, labels = batch(torch.float32)
    output, dh, _ = gradients(hidden, weight, torch.full_like(labels, -100), gradient_filter=1.0)
    assert output.loss == 0
    assert not dh.any()


@pytest.mark.parametrize("bound", [0.0, -1.0, float("inf"), float("nan")])
def test_bounds_that_keep_all_or_nothing_are_refused(bound):
    with pytest.raises(InputError, match="gradient_filter"):
        linear_loss(*batch(torch.float32), gradient_filter=bound)
