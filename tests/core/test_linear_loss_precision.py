"""Low precision, judged by the distance of the plain implementation from float64."""

import pytest
import torch
from torch import nn

from dft_plugin import linear_loss

N, H, V = 64, 96, 2053
LOSS_SCALE = 2.0**12  # what a gradient scaler does for float16


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Matrices this small only make threads wait for each other."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def batch(dtype, *, seed, is_confident):
    """Rows whose targets are improbable, or probable to any degree: DFT weighs the latter most."""
    generator = torch.Generator().manual_seed(seed)
    weight = 3 * torch.randn(V, H, generator=generator) / H**0.5  # logits spread as in a trained model
    labels = torch.randint(V, (N,), generator=generator)
    hidden = torch.randn(N, H, generator=generator)
    if is_confident:
        hidden = hidden + 3 * torch.rand(N, 1, generator=generator) * weight[labels]
    return hidden.to(dtype), weight.to(dtype), labels


def native(hidden, weight, labels):
    """DFT as training frameworks write it, on full logits."""
    nll = nn.functional.cross_entropy(
        nn.functional.linear(hidden, weight).to(torch.promote_types(hidden.dtype, torch.float32)),
        labels,
        reduction="none",
    )
    return (nll * torch.exp(-nll).detach()).mean()


def fused(chunk_size):
    return lambda *args: linear_loss(*args, shift=False, chunk_size=chunk_size).loss


def measure(loss_function, hidden, weight, labels, *, dtype):
    leaves = [x.to(dtype, copy=True).requires_grad_() for x in (hidden, weight)]
    loss = loss_function(*leaves, labels)
    (LOSS_SCALE * loss).backward()
    return {"loss": loss.detach().double()} | {
        name: leaf.grad.double() / LOSS_SCALE for name, leaf in zip(("dh", "dw"), leaves, strict=True)
    }


def errors(loss_function, dtype, *, is_confident):
    """Relative distance from float64, root mean square over seeds: one loss is within luck of any other."""
    squares = {"loss": [], "dh": [], "dw": []}
    for seed in range(4):
        inputs = batch(dtype, seed=seed, is_confident=is_confident)
        truth = measure(native, *inputs, dtype=torch.float64)
        values = measure(loss_function, *inputs, dtype=dtype)
        for name, square in squares.items():
            square.append(((values[name] - truth[name]).norm() / truth[name].norm()).square())
    return {name: float(torch.stack(square).mean().sqrt()) for name, square in squares.items()}


@pytest.mark.parametrize("is_confident", [False, True])
@pytest.mark.parametrize("chunk_size", [None, 3], ids=["one chunk", "22 chunks"])
@pytest.mark.parametrize(("dtype", "share"), [(torch.bfloat16, 0.7), (torch.float16, 0.7), (torch.float32, 1.0)])
def test_closer_to_float64_than_the_plain_implementation(dtype, share, chunk_size, is_confident):
    ours = errors(fused(chunk_size), dtype, is_confident=is_confident)
    theirs = errors(native, dtype, is_confident=is_confident)
    tolerance = 4 * torch.finfo(torch.float32).eps
    assert all(ours[name] <= share * theirs[name] + tolerance for name in ours), (ours, theirs)
    assert dtype != torch.float32 or max(ours.values()) <= 5e-6, ours


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("margin", [7.0, 9.0, 12.0])
def test_confident_tokens_keep_their_gradient(dtype, margin):
    """p = .9991, .9999, .999994 over two words: 1 - p must not round to zero before it is subtracted."""
    hidden = torch.tensor([[1.0]], dtype=dtype, requires_grad=True)
    weight = torch.tensor([[margin], [0.0]], dtype=dtype)
    labels = torch.tensor([0])
    linear_loss(hidden, weight, labels, shift=False, objective="sft").loss.mul(LOSS_SCALE).backward()
    expected = -margin * torch.sigmoid(torch.tensor(-margin, dtype=torch.float64))
    torch.testing.assert_close(hidden.grad.double() / LOSS_SCALE, expected.view(1, 1), rtol=1e-2, atol=0)


def test_float16_gradients_wait_for_the_loss_scale():
    """Gradients of 1e-9 exist in float16 only after a loss scale of 2^12 has multiplied them."""
    weight = torch.zeros(V, H, dtype=torch.float16)
    hidden = torch.full((1, H), 2.0**-4, dtype=torch.float16)
    labels = torch.tensor([0])
    values = measure(lambda *args: linear_loss(*args, shift=False).loss, hidden, weight, labels, dtype=torch.float16)
    expected = torch.full((V, H), 2.0**-4 / V**2, dtype=torch.float64)
    torch.testing.assert_close(values["dw"][1:], expected[1:], rtol=2e-2, atol=0)


def test_a_bfloat16_head_under_many_chunks_is_summed_in_float32():
    """Chunks of one row: a bfloat16 sum stops growing at a quarter, where the 2^-10 to add is half a unit."""
    hidden = torch.ones(512, 1, dtype=torch.bfloat16)
    weight = torch.zeros(2, 1, dtype=torch.bfloat16, requires_grad=True)
    labels = torch.zeros(512, dtype=torch.long)
    linear_loss(hidden, weight, labels, shift=False, objective="sft", chunk_size=1).loss.backward()
    torch.testing.assert_close(weight.grad, torch.tensor([[-0.5], [0.5]], dtype=torch.bfloat16), rtol=0, atol=0)


@pytest.mark.parametrize("num_chunks", [20, 64, 200])
def test_many_chunks_cost_a_bfloat16_head_no_digits(num_chunks):
    """Targets as frequent as words are; without float32 sums of the frequent ones, 1e-2 at 200 chunks."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(V, H, generator=generator) / H**0.5
    frequency = 1 / torch.arange(1, V + 1) ** 1.5
    labels = torch.multinomial(frequency, 4 * num_chunks, replacement=True, generator=generator)
    hidden = torch.randn(len(labels), H, generator=generator) + 0.5  # a mean that all rows share
    inputs = hidden.bfloat16(), weight.bfloat16(), labels
    truth = measure(native, *inputs, dtype=torch.float64)
    found = measure(fused(4), *inputs, dtype=torch.bfloat16)
    assert (found["dw"] - truth["dw"]).norm() <= 4e-3 * truth["dw"].norm()
