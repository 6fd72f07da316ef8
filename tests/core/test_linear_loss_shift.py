"""Logits far from zero, as trained models have them: a constant added to all of them must cost no digits."""

import pytest
import torch
from torch import nn

from dft_plugin import get_objective, linear_loss
from dft_plugin.core.chunk_product import ChunkProduct
from dft_plugin.core.chunked_linear import LinearCall
from dft_plugin.core.context import TokenContext
from dft_plugin.core.reduction import keep_tokens
from dft_plugin.training.logit_transform import LogitTransform
from dft_plugin.training.verification import verify_fused

N, H, V = 96, 64, 1531
LOSS_SCALE = 2.0**12  # what a gradient scaler does for float16
LIMITS = {torch.bfloat16: 4e-3, torch.float16: 6e-4}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Matrices this small only make threads wait for each other."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def batch(shift, dtype):
    """Heavy-tailed logits of any confidence, their last coordinate the constant `shift`; every value is exact."""
    generator = torch.Generator().manual_seed(0)
    weight = 3 * torch.randn(V, H, generator=generator) / H**0.5
    labels = torch.randint(V, (N,), generator=generator)
    tails = torch.distributions.StudentT(2.0).sample((N, 1)).abs().clamp(max=8)
    hidden = torch.randn(N, H, generator=generator) * (1 + tails / 4)
    hidden += 3 * torch.rand(N, 1, generator=generator) * weight[labels]
    ones, column = torch.ones(N, 1), torch.full((V, 1), float(shift))
    return torch.cat((hidden, ones), 1).to(dtype), torch.cat((weight, column), 1).to(dtype), labels


def gradients(hidden, weight, labels, dtype, **options):
    leaves = [x.to(dtype, copy=True).requires_grad_() for x in (hidden, weight)]
    loss = linear_loss(*leaves, labels, shift=False, chunk_size=40, **options).loss
    (LOSS_SCALE * loss).backward()
    return [loss.detach().double(), *(leaf.grad.double() / LOSS_SCALE for leaf in leaves)]


def errors(hidden, weight, labels, dtype, **options):
    truth = gradients(hidden, weight, labels, torch.float64, **options)
    found = gradients(hidden, weight, labels, dtype, **options)
    return [float((a - b).norm() / b.norm()) for a, b in zip(found, truth, strict=True)]


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("shift", [0, 64, -128])
@pytest.mark.parametrize("objective", ["dft", "sft", "eaft", "deft"])
def test_a_shift_of_all_logits_costs_no_digits(objective, shift, dtype):
    loss, dh, dw = errors(*batch(shift, dtype), dtype, objective=objective)
    assert loss < 1e-3
    assert max(dh, dw) <= LIMITS[dtype], (dh, dw)


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize(
    "options",
    [
        {"logit_scale": 0.5, "objective": "dft"},
        {"logit_scale": 2.0, "objective": "sft"},
        {"logit_softcap": 30.0, "objective": "dft"},
        {"logit_softcap": 30.0, "logit_scale": 0.25, "objective": "sft"},
    ],
    ids=str,
)
@pytest.mark.parametrize("shift", [0, 32])
def test_scaled_and_capped_logits_keep_their_digits(options, shift, dtype):
    loss, dh, dw = errors(*batch(shift, dtype), dtype, **options)
    assert loss < 1e-3
    assert max(dh, dw) <= LIMITS[dtype], (dh, dw)


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("shift", [0.0, 128.0, -100.0])
def test_a_bias_keeps_its_digits(shift, dtype):
    hidden, weight, labels = batch(0, dtype)
    bias = (torch.randn(V) + shift).to(dtype)
    truth_bias = bias.double()
    grads = []
    for kind, offset in ((torch.float64, truth_bias), (dtype, bias)):
        leaf = offset.clone().requires_grad_()
        grads.append([*gradients(hidden, weight, labels, kind, bias=leaf), leaf.grad.double() / LOSS_SCALE])
    loss, dh, dw, db = (float((a - b).norm() / b.norm()) for a, b in zip(grads[1], grads[0], strict=True))
    assert loss < 1e-3
    assert max(dh, dw, db) <= LIMITS[dtype], (dh, dw, db)


@pytest.mark.parametrize("shift", [0, 128])
def test_a_reference_keeps_its_digits(shift):
    hidden, weight, labels = batch(shift, torch.bfloat16)
    ref_hidden = hidden + torch.cat((0.1 * torch.randn(N, H), torch.zeros(N, 1)), 1).bfloat16()
    grads = []
    for dtype in (torch.float64, torch.bfloat16):
        leaf = hidden.to(dtype, copy=True).requires_grad_()
        context = TokenContext(ref_hidden=ref_hidden.to(dtype))
        options = {"objective": get_objective("asft"), "shift": False, "context": context}
        linear_loss(leaf, weight.to(dtype), labels, **options).loss.backward()
        grads.append(leaf.grad.double())
    assert (grads[1] - grads[0]).norm() <= 5e-3 * grads[0].norm()


def test_autocast_keeps_the_digits_of_a_float32_model():
    hidden, weight, labels = batch(128, torch.bfloat16)
    leaves = [x.float().requires_grad_() for x in (hidden, weight)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = linear_loss(*leaves, labels, shift=False).loss
    loss.backward()
    truth = gradients(hidden, weight, labels, torch.float64)
    for leaf, expected in zip(leaves, truth[1:], strict=True):
        assert (leaf.grad.double() - expected).norm() <= 4e-3 * expected.norm()


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
def test_a_target_that_is_masked_stays_impossible(dtype):
    bias = torch.zeros(V, dtype=dtype)
    bias[3] = -torch.inf
    hidden, weight = torch.randn(2, H, dtype=dtype), torch.randn(V, H, dtype=dtype)
    nll = linear_loss(hidden, weight, torch.tensor([3, 5]), bias=bias, shift=False).token_nll
    assert nll[0] == torch.inf
    assert nll[1].isfinite()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("with_bias", [False, True])
def test_wide_logits_are_the_plain_product(dtype, with_bias):
    hidden, weight, labels = batch(3, dtype)
    bias = torch.randn(V, dtype=dtype) if with_bias else None
    kept = keep_tokens(labels, shift=False, ignore_index=-100, vocab_size=V)
    call = LinearCall(kept, None, None, 1.0, None, N, dtype, (True, True, with_bias))
    logits, targets, pivots = ChunkProduct(weight, bias, call).into(hidden.new_empty(N, V), hidden, labels)
    expected = hidden @ weight.T if bias is None else torch.addmm(bias, hidden, weight.T)
    assert pivots is None
    assert torch.equal(logits, expected)
    assert torch.equal(targets, expected.gather(1, labels[:, None]).squeeze(1))


@pytest.mark.parametrize("is_in_bias", [False, True])
def test_the_self_test_of_a_run_accepts_shifted_logits(is_in_bias):
    """The former bfloat16 logits were refused here, although the run was right."""
    hidden, weight, labels = batch(0 if is_in_bias else 128, torch.bfloat16)
    head = nn.Linear(H + 1, V, bias=is_in_bias, dtype=torch.bfloat16)
    with torch.no_grad():
        head.weight.copy_(weight)
        if is_in_bias:
            head.bias.fill_(128.0)
    options = {"shift": True, "chunk_size": None, "transform": LogitTransform()}
    assert verify_fused(hidden[None], head, labels[None], get_objective("dft"), TokenContext(), **options)
