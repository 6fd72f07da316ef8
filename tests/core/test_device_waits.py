"""One transfer from the device for each loss call, whatever the objective, and none for a chunk."""

import warnings

import pytest
import torch

from dft_plugin import OBJECTIVES, get_objective, linear_loss, logits_loss
from dft_plugin.core.composed_objectives import Routed, Shaped
from dft_plugin.core.context import TokenContext
from dft_plugin.core.reduction import DeviceCheck
from dft_plugin.errors import InputError
from tests.device_waits import CountedWaits

B, T, H, V = 2, 24, 8, 40
COMPOSED = {
    "shaped": Shaped(get_objective("dft"), floor=0.1, cap=0.9, full_weight_tokens=(3, 7), is_mean_one=True),
    "routed": Routed({1: get_objective("dft"), 2: get_objective("sft")}),
    "routed with default": Routed({1: get_objective("dft_sequence")}, get_objective("eaft")),
}
CASES = {**{name: get_objective(name) for name in OBJECTIVES}, **COMPOSED}


def call(objective, *, is_fused, device="cpu", dtype=torch.bfloat16):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(B, T, H, generator=generator).to(device, dtype).requires_grad_()
    weight = torch.randn(V, H, generator=generator).to(device, dtype).requires_grad_()
    labels = torch.randint(V, (B, T), generator=generator).to(device)
    labels[:, :5] = -100
    never = torch.zeros((), dtype=torch.bool, device=device)
    context = TokenContext(
        ref_logps=torch.full((B, T), -1.0, device=device),
        segments=(torch.arange(T, device=device) // 9).expand(B, T),
        routes=(torch.arange(T, device=device) % 2 + 1).expand(B, T),
        ref_hidden=hidden.detach() + 0.1,
        ref_logits=(hidden.detach() + 0.1) @ weight.detach().T,
        checks=(DeviceCheck(never, AssertionError), DeviceCheck(never.expand(B, T), AssertionError)),
    )
    options = {"objective": objective, "context": context, "num_items_in_batch": torch.tensor(91, device=device)}

    def run():
        if is_fused:
            return linear_loss(hidden, weight, labels, chunk_size=4, **options).loss
        return logits_loss(hidden @ weight.T, labels, **options).loss

    return run


@pytest.mark.parametrize("is_fused", [True, False], ids=["fused", "logits"])
@pytest.mark.parametrize("objective", CASES.values(), ids=CASES)
def test_a_call_waits_once(objective, is_fused):
    run = call(objective, is_fused=is_fused)
    with CountedWaits() as forward:
        loss = run()
    with CountedWaits() as backward:
        loss.backward()
    assert forward.found == {"tolist": 1}
    # on a CPU alone the gradient of the loss is compared with one, where no multiplication is cheaper
    assert sum(backward.found.values()) <= is_fused


def test_the_counter_sees_what_waits():
    x = torch.arange(4.0)
    with CountedWaits() as waits:
        x.sum().item(), float(x[0]), bool(x.any()), x.nonzero(), x[x > 1], x.unique(), x.tolist()
        x[x > 2] = 0
    assert sum(waits.found.values()) == 8, waits.found


@pytest.mark.parametrize("is_fused", [True, False], ids=["fused", "logits"])
def test_a_data_source_without_a_rule_is_refused_by_its_key(is_fused):
    run = call(Routed({1: get_objective("dft")}), is_fused=is_fused)
    with pytest.raises(InputError, match=r"keys \[2\].*without a rule"):
        run()


def test_only_kept_tokens_need_a_rule_and_hold_to_checks():
    hidden, weight = torch.randn(T, H), torch.randn(V, H)
    labels = torch.arange(T)
    labels[4:8] = -100
    routes = torch.ones(T, dtype=torch.long)
    routes[[0, 5]] = 9  # no position predicts the first
    is_wrong = routes == 9
    context = TokenContext(routes=routes, checks=(DeviceCheck(is_wrong, AssertionError),))
    objective = Routed({1: get_objective("dft")})
    expected = linear_loss(hidden, weight, labels).loss
    torch.testing.assert_close(linear_loss(hidden, weight, labels, objective=objective, context=context).loss, expected)


def test_sequences_are_numbered_by_their_bounds():
    """Neighbours differ, whatever the numbers; a masked sequence between two does not join them."""
    generator = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(2, 9, H, generator=generator), torch.randn(V, H, generator=generator)
    labels = torch.randint(V, (2, 9), generator=generator)
    labels[0, 3:6] = -100
    segments = torch.tensor([[4, 4, 4, 1, 1, 1, 4, 4, 4], [4, 4, 4, 4, 4, 4, 4, 4, 4]])
    options = {"objective": "dft_sequence", "shift": False}
    packed = linear_loss(hidden, weight, labels, context=TokenContext(segments=segments), **options)
    for row, part in ((0, slice(0, 3)), (0, slice(6, 9)), (1, slice(0, 9))):
        alone = linear_loss(hidden[row, part], weight, labels[row, part], **options)
        torch.testing.assert_close(packed.token_weight[row, part], alone.token_weight)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("is_fused", [True, False], ids=["fused", "logits"])
@pytest.mark.parametrize("objective", CASES.values(), ids=CASES)
def test_on_a_gpu_a_call_waits_once(objective, is_fused):
    run = call(objective, is_fused=is_fused, device="cuda")
    run().backward()  # compiles kernels
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            run().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len([x for x in found if "synchronizing" in str(x.message)]) <= 1
