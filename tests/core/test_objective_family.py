"""Every objective: its weight as its paper writes it, and value and gradients on both paths, in float64."""

import math

import numpy as np
import pytest
import torch

from dft_plugin import OBJECTIVES, TokenContext, get_objective, linear_loss, logits_loss
from dft_plugin.core.composed_objectives import Routed, Shaped
from dft_plugin.core.objective import NO_STEP_BEFORE, SequenceNll, TokenInputs
from dft_plugin.errors import InputError, OptionError

SHAPE = (3, 11)  # sequences, positions
VOCAB, HIDDEN = 37, 8


def top20(probs):
    top = probs.topk(20, dim=-1).values
    top = top / top.sum(-1, keepdim=True)
    return -(top * top.log()).sum(-1)


def entropy(probs):
    return -(probs * probs.log()).sum(-1)


def over_rows(values, reduce):
    """`reduce` over the kept tokens of each row, for every one of them."""
    return torch.cat([reduce(row).expand(row.shape) for row in values])


def mean_nll(rows):
    return np.array([float(-row.log().mean()) for row in rows])


def hardness(row, batch):
    z = (float(-row.log().mean()) - batch.mean()) / (batch.std() + 1e-6)
    return torch.tensor(math.exp(-2.0 * max(0.0, z)), dtype=torch.float64)


# Each weight from the distribution `probs` (N, V), the targets' `p` (N,), the reference's `ref` (N,), and `rows`,
# which cuts (N,) into the sequences; written down independently of the code under test.
TEXTBOOK = {
    "sft": ({}, lambda probs, p, ref, rows: torch.ones_like(p)),
    "dft": ({}, lambda probs, p, ref, rows: p),
    "dft_sequence": ({}, lambda probs, p, ref, rows: over_rows(rows(p), torch.prod)),
    "dft_geometric_mean": (
        {},
        lambda probs, p, ref, rows: over_rows(rows(p), lambda row: torch.prod(row) ** (1 / len(row))),
    ),
    "power": ({"alpha": 1.5}, lambda probs, p, ref, rows: p**1.5),
    "dft_floor": ({"floor_at": 0.05}, lambda probs, p, ref, rows: p.clamp(0.05, 1)),
    "mix": ({"alpha": 0.6}, lambda probs, p, ref, rows: 0.6 * p + 0.4),
    "profit": ({"tau": 0.02}, lambda probs, p, ref, rows: (p > 0.02).double()),
    "profit lower": ({"tau": 0.02, "side": "lower"}, lambda probs, p, ref, rows: (p <= 0.02).double()),
    "eaft": ({"alpha": 2.0}, lambda probs, p, ref, rows: (entropy(probs) / math.log(20)).clamp(max=1) ** 2),
    "eaft top20": ({"entropy": "top20"}, lambda probs, p, ref, rows: top20(probs) / 3.0),
    "deft": ({}, lambda probs, p, ref, rows: p ** probs.square().sum(-1)),
    "chord_phi": ({}, lambda probs, p, ref, rows: p * (1 - p)),
    "focal": ({"gamma": 1.5}, lambda probs, p, ref, rows: (1 - p) ** 1.5),
    "iw_sft": (
        {"temperature": 1.3},
        lambda probs, p, ref, rows: over_rows(rows(p / ref), lambda r: r.log().mean().mul(1.3).exp().clamp(0, 16)),
    ),
    "iw_sft token": ({"level": "token"}, lambda probs, p, ref, rows: (p / ref).clamp(0.2, 1.8)),
    "prift": ({}, lambda probs, p, ref, rows: ref),
    "asft": ({"kl_coef": 0.3}, lambda probs, p, ref, rows: p),
    "infosft": (
        {"cutoff": 0.8},
        lambda probs, p, ref, rows: p * (1 - (p / (1 - p)).log() / math.log(0.8 / 0.2)).clamp(min=0),
    ),
    "gft_dcr": ({"tau": 0.05}, lambda probs, p, ref, rows: torch.where(p < 0.05, p, 1.0)),
    "talr": ({}, lambda probs, p, ref, rows: (p ** (1 / np.median(mean_nll(rows(p))))).clamp(min=0.01)),
    "cadft": (
        {"beta": 2.0},
        lambda probs, p, ref, rows: p * over_rows(rows(p), lambda row: hardness(row, mean_nll(rows(p)))),
    ),
    "asft target_k3": ({"kl_coef": 0.3, "kl": "target_k3"}, lambda probs, p, ref, rows: p + 0.3 * (ref / p - 1)),
}


@pytest.fixture
def problem():
    """Leaves, labels with ignored ones, a reference, and the textbook loss of any of the weights."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    hidden, weight, ref_hidden = draw(*SHAPE, HIDDEN), draw(VOCAB, HIDDEN), draw(*SHAPE, HIDDEN)
    labels = torch.randint(VOCAB, SHAPE, generator=generator)
    labels[torch.rand(SHAPE, generator=generator) < 0.3] = -100
    ref_logps = (ref_hidden @ weight.T).log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None]).squeeze(-1)
    scale = torch.rand(SHAPE, generator=generator, dtype=torch.float64)
    return hidden, weight, ref_hidden, labels, ref_logps, scale


def leaves(*tensors):
    return [tensor.clone().requires_grad_() for tensor in tensors]


def textbook(problem, name):
    """Loss and gradients of one name by autograd of the formula, over every kept token with its own scale."""
    hidden, weight, ref_hidden, labels, ref_logps, scale = problem
    options, weigh = TEXTBOOK[name]
    hidden, weight = leaves(hidden, weight)
    kept = labels != -100
    probs = (hidden @ weight.T).softmax(-1)[kept]
    p = probs.gather(1, labels[kept][:, None]).squeeze(1)
    counts = kept.sum(1).tolist()
    token_weight = weigh(probs.detach(), p.detach(), ref_logps[kept].exp(), lambda values: values.split(counts))
    per_token = -token_weight * p.log()
    if name == "asft":
        q = (ref_hidden @ weight.detach().T).softmax(-1)[kept]
        per_token = per_token + options["kl_coef"] * (q * (q.log() - probs.log())).sum(-1)
    loss = (per_token * scale[kept]).sum() / int(kept.sum())
    return loss, *torch.autograd.grad(loss, (hidden, weight)), token_weight


def ours(problem, name, path, chunk_size=None):
    hidden, weight, ref_hidden, labels, ref_logps, scale = problem
    hidden, weight = leaves(hidden, weight)
    objective = get_objective(name.split()[0], **TEXTBOOK[name][0])
    options = {"objective": objective, "token_scale": scale, "shift": False}
    if path == "fused":
        context = TokenContext(ref_logps=ref_logps, ref_hidden=ref_hidden)
        output = linear_loss(hidden, weight, labels, chunk_size=chunk_size, context=context, **options)
    else:
        context = TokenContext(ref_logps=ref_logps, ref_logits=ref_hidden @ weight.detach().T)
        output = logits_loss(hidden @ weight.T, labels, context=context, **options)
    return output.loss, *torch.autograd.grad(output.loss, (hidden, weight)), output.token_weight[labels != -100]


def test_every_objective_has_a_textbook_weight():
    assert {name.split()[0] for name in TEXTBOOK} == set(OBJECTIVES)


@pytest.mark.parametrize(("path", "chunk_size"), [("logits", None), ("fused", None), ("fused", 1), ("fused", 7)])
@pytest.mark.parametrize("name", TEXTBOOK)
def test_value_weight_and_gradients_are_those_of_the_formula(problem, name, path, chunk_size):
    for truth, found in zip(textbook(problem, name), ours(problem, name, path, chunk_size), strict=True):
        torch.testing.assert_close(
            found.double(), truth, rtol=1e-6 if found.dtype == torch.float32 else 1e-10, atol=1e-12
        )


@pytest.mark.parametrize("name", TEXTBOOK)
def test_the_label_shift_moves_everything_that_is_aligned_with_labels(problem, name):
    hidden, weight, ref_hidden, labels, ref_logps, scale = problem

    def prepend(values, fill):
        return torch.cat((torch.full_like(values[:, :1], fill), values), 1)

    hidden_before = torch.cat((hidden, torch.zeros_like(hidden[:, :1])), 1)
    ref_before = torch.cat((ref_hidden, torch.zeros_like(ref_hidden[:, :1])), 1)
    context = TokenContext(ref_logps=prepend(ref_logps, 0.0), ref_hidden=ref_before)
    objective = get_objective(name.split()[0], **TEXTBOOK[name][0])
    options = {"objective": objective, "token_scale": prepend(scale, 0.0), "context": context}
    shifted = linear_loss(hidden_before, weight, prepend(labels, -100), **options).loss
    torch.testing.assert_close(shifted, ours(problem, name, "fused")[0], rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["dft_sequence", "dft_geometric_mean", "iw_sft", "talr", "cadft"])
def test_packed_neighbours_are_other_sequences(problem, name):
    hidden, weight, _, labels, ref_logps, scale = problem
    packed = [tensor.reshape(1, -1, *tensor.shape[2:]) for tensor in (hidden, labels, ref_logps, scale)]
    segments = torch.arange(SHAPE[0])[:, None].expand(SHAPE).reshape(1, -1) % 2  # only neighbours must differ
    segments = segments + 2 * (torch.arange(SHAPE[0])[:, None].expand(SHAPE).reshape(1, -1) // 2)
    context = TokenContext(ref_logps=packed[2], segments=segments)
    objective = get_objective(name, **TEXTBOOK[name][0])
    options = {"objective": objective, "token_scale": packed[3], "shift": False, "context": context}
    for loss in (
        linear_loss(packed[0], weight, packed[1], **options).loss,
        logits_loss(packed[0] @ weight.T, packed[1], **options).loss,
    ):
        torch.testing.assert_close(loss, textbook(problem, name)[0].detach(), rtol=1e-10, atol=0)


@pytest.mark.parametrize("path", ["logits", "fused"])
def test_weight_one_is_sft_to_the_bit(problem, path):
    hidden, weight, _, labels, _, scale = (x.float() if x.is_floating_point() else x for x in problem)
    ones = [get_objective("power", alpha=0.0), get_objective("mix", alpha=0.0), get_objective("profit", tau=0.0)]
    ones += [get_objective("dft_floor", floor_at=1.0), Shaped(get_objective("dft"), floor=1.0, cap=1.0)]
    results = []
    for objective in [get_objective("sft"), *ones]:
        h, w = leaves(hidden, weight)
        if path == "fused":
            loss = linear_loss(h, w, labels, objective=objective, token_scale=scale).loss
        else:
            loss = logits_loss(h @ w.T, labels, objective=objective, token_scale=scale).loss
        results.append((loss, *torch.autograd.grad(loss, (h, w))))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("path", ["logits", "fused"])
def test_shared_options_compose_in_the_stated_order(problem, path):
    hidden, weight, _, labels, _, _ = problem
    kept = labels != -100
    p = (hidden @ weight.T).softmax(-1)[kept].gather(1, labels[kept][:, None]).squeeze(1)
    full = int(labels[kept][0])
    truth = p.clamp(0.01, 0.2)
    truth[labels[kept] == full] = 1
    shaped = Shaped(get_objective("dft"), floor=0.01, cap=0.2, full_weight_tokens=(full,), is_mean_one=True)
    for context, mean in ((None, truth.mean()), (TokenContext(mean_weight=0.25), 0.25)):
        options = {"objective": shaped, "shift": False, "context": context}
        if path == "fused":
            output = linear_loss(hidden, weight, labels, chunk_size=4, **options)
        else:
            output = logits_loss(hidden @ weight.T, labels, **options)
        torch.testing.assert_close(output.token_weight[kept].double(), truth / mean, rtol=1e-6, atol=0)


@pytest.mark.parametrize("path", ["logits", "fused"])
def test_routes_train_each_token_by_its_own_objective(problem, path):
    hidden, weight, ref_hidden, labels, _, _ = problem
    routes = torch.tensor([5, 9, 5])[:, None].expand(SHAPE)
    routed = Routed({5: get_objective("sft"), 9: get_objective("asft", kl_coef=0.5)})
    names = {"logits": "ref_logits", "fused": "ref_hidden"}
    references = {"logits": ref_hidden @ weight.T, "fused": ref_hidden}

    def loss(labels, objective, **more):
        context = TokenContext(**{names[path]: references[path]}, **more)
        options = {"objective": objective, "shift": False, "num_items_in_batch": 10, "context": context}
        if path == "fused":
            return linear_loss(hidden, weight, labels, chunk_size=5, **options).loss
        return logits_loss(hidden @ weight.T, labels, **options).loss

    apart = loss(labels.where(routes == 5, -100), get_objective("sft"))
    apart = apart + loss(labels.where(routes == 9, -100), get_objective("asft", kl_coef=0.5))
    torch.testing.assert_close(loss(labels, routed, routes=routes), apart, rtol=1e-12, atol=0)
    with pytest.raises(InputError, match="without a rule"):
        loss(labels, routed, routes=torch.full(SHAPE, 7))
    catch_all = Routed({5: get_objective("sft")}, default=get_objective("dft"))
    rest = loss(labels.where(routes == 5, -100), get_objective("sft"))
    rest = rest + loss(labels.where(routes == 9, -100), get_objective("dft"))
    torch.testing.assert_close(loss(labels, catch_all, routes=routes), rest, rtol=1e-12, atol=0)


@pytest.mark.parametrize("chunk_size", [None, 3])
def test_the_anchor_follows_bias_scale_and_softcap(problem, chunk_size):
    hidden, weight, ref_hidden, labels, _, scale = problem
    bias = torch.linspace(-1, 1, VOCAB, dtype=torch.float64)
    objective = get_objective("asft", kl_coef=0.7)

    def transformed(states, weight, bias):
        return 2.5 * torch.tanh(0.6 * (states @ weight.T + bias) / 2.5)

    results = []
    for path in ("logits", "fused"):
        h, w, b = leaves(hidden, weight, bias)
        if path == "fused":
            options = {"logit_scale": 0.6, "logit_softcap": 2.5, "bias": b, "chunk_size": chunk_size}
            context = TokenContext(ref_hidden=ref_hidden)
            output = linear_loss(h, w, labels, objective=objective, token_scale=scale, context=context, **options)
        else:
            context = TokenContext(ref_logits=transformed(ref_hidden, weight, bias))
            logits = transformed(h, w, b)
            output = logits_loss(logits, labels, objective=objective, token_scale=scale, context=context)
        results.append((output.loss, output.token_kl, *torch.autograd.grad(output.loss, (h, w, b))))
    for plain, fused in zip(*results, strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-9, atol=1e-12)
    same = TokenContext(ref_hidden=hidden)
    assert not linear_loss(hidden, weight, labels, objective=objective, context=same).token_kl.any()


@pytest.mark.parametrize("name", TEXTBOOK)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_low_precision_is_no_worse_than_the_logits_path(problem, name, dtype):
    truth = textbook(problem, name)[1]
    low = tuple(x.to(dtype) if x.is_floating_point() else x for x in problem[:3]) + problem[3:]
    rounded = textbook((*(x.double() if x.is_floating_point() else x for x in low[:3]), *problem[3:]), name)[1]
    errors = {}
    for path in ("logits", "fused"):
        errors[path] = float((ours(low, name, path)[1].double() - rounded).norm() / truth.norm())
    assert errors["fused"] <= errors["logits"] + 2e-3, errors


@pytest.mark.parametrize("name", TEXTBOOK)
def test_nothing_kept_is_a_zero_with_a_graph(problem, name):
    hidden, weight, ref_hidden, labels, ref_logps, scale = problem
    nothing = (hidden, weight, ref_hidden, torch.full_like(labels, -100), ref_logps, scale)
    for path in ("logits", "fused"):
        loss, *grads = ours(nothing, name, path)[:3]
        assert float(loss.detach()) == 0
        assert all(float(grad.abs().sum()) == 0 for grad in grads)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.8, 0.8, 0.8, 0.8]),
        ("linear", [0.2, 0.35, 0.5, 0.8]),
        ("cosine", [0.2, 0.2 + 0.6 * (1 - math.cos(math.pi / 4)) / 2, 0.5, 0.8]),
        ("warmup", [0.2, 0.5, 0.8, 0.8]),
    ],
)
def test_mix_is_annealed_over_the_run(schedule, expected):
    mix = get_objective("mix", alpha=0.8, start=0.2, schedule=schedule, warmup=0.5)
    assert [mix.at(progress).alpha for progress in (0, 0.25, 0.5, 1)] == pytest.approx(expected)
    assert Shaped(mix, floor=0.1).at(0.5).base.alpha == pytest.approx(expected[2])
    if schedule != "constant":
        with pytest.raises(OptionError, match="training step"):
            logits_loss(torch.zeros(3, 5), torch.tensor([0, 1, 2]), objective=mix)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("power", {"alpha": -1.0}, "alpha=-1.0"),
        ("mix", {"alpha": 1.5}, "alpha=1.5"),
        ("mix", {"schedule": "step"}, "accepted: 'constant', 'linear'"),
        ("mix", {"warmup": 0.0}, "warmup=0.0"),
        ("eaft", {"entropy": "top5"}, "accepted: 'exact', 'top20'"),
        ("dft_floor", {"floor_at": True}, "float is accepted"),
        ("iw_sft", {"temperature": math.nan}, "temperature=nan"),
        ("asft", {"kl": "forward"}, "ref_to_model"),
        ("infosft", {"cutoff": 0.5}, "cutoff=0.5"),
        ("gft_dcr", {"tau": 1.5}, "tau=1.5"),
        ("talr", {"floor_at": -0.1}, "floor_at=-0.1"),
        ("cadft", {"beta": -1.0}, "beta=-1.0"),
        ("dft", {"alpha": 1.0}, "no option 'alpha'"),
    ],
)
def test_options_that_cannot_be_are_refused(name, options, message):
    with pytest.raises(OptionError, match=message):
        get_objective(name, **options)


@pytest.mark.parametrize(("p", "weight"), [(0.01, 0.028), (0.1, 0.185), (0.5, 0.5), (0.8, 0.37), (0.93, 0), (1.0, 0)])
def test_infosft_has_the_published_weights(p, weight):
    logps = torch.tensor([p], dtype=torch.float64).log()
    found = get_objective("infosft").weight(TokenInputs(token_logps=logps, targets=torch.zeros(1).long()))
    assert float(found) == pytest.approx(weight, abs=2e-3)


@pytest.mark.parametrize("path", ["logits", "fused"])
@pytest.mark.parametrize("name", ["talr", "cadft"])
def test_a_given_statistic_of_the_batch_makes_the_split_indifferent(problem, name, path):
    hidden, weight, _, labels, _, _ = problem
    batch = SequenceNll(median=3.0, mean=3.5, std=0.4)

    def loss(rows, given):
        options = {
            "objective": name,
            "shift": False,
            "num_items_in_batch": 20,
            "context": TokenContext(sequence_nll=given),
        }
        if path == "fused":
            return linear_loss(hidden[rows], weight, labels[rows], chunk_size=4, **options).loss
        return logits_loss(hidden[rows] @ weight.T, labels[rows], **options).loss

    whole, parts = loss(slice(0, 3), batch), loss(slice(0, 1), batch) + loss(slice(1, 3), batch)
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=0)
    assert not torch.isclose(whole, loss(slice(0, 3), None), rtol=1e-3), "the statistic made no difference"
    first = linear_loss(hidden, weight, labels, objective="dft_floor" if name == "talr" else "dft", shift=False)
    p = first.token_nll.neg().exp()[labels != -100]
    found = logits_loss(
        hidden @ weight.T, labels, objective=name, shift=False, context=TokenContext(sequence_nll=NO_STEP_BEFORE)
    ).token_weight[labels != -100]
    torch.testing.assert_close(found, p.clamp(min=0.01) if name == "talr" else p)


@pytest.mark.parametrize("name", ["prift", "iw_sft token", "asft target_k3", "asft"])
@pytest.mark.parametrize("path", ["logits", "fused"])
def test_a_missing_reference_is_refused(problem, name, path):
    objective = get_objective(name.split()[0], **TEXTBOOK[name][0])
    hidden, weight, _, labels, _, _ = problem
    with pytest.raises(InputError, match="ref_logps|reference"):
        if path == "fused":
            linear_loss(hidden, weight, labels, objective=objective)
        else:
            logits_loss(hidden @ weight.T, labels, objective=objective)
