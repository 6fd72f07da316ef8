"""Token statistics: by hand, and whatever the split."""

import math

import pytest
import torch

from dft_plugin import logits_loss
from dft_plugin.core.token_stats import TokenStats
from dft_plugin.errors import InputError


def output_of(probs, objective="dft"):
    """A loss call in which the kept targets have exactly these probabilities."""
    logits = torch.tensor([[[math.log(p), math.log(1 - p)] for p in probs] + [[0.0, 0.0]]], dtype=torch.float64)
    labels = torch.tensor([[-100] + [0] * len(probs)])
    return logits_loss(logits, labels, objective=objective)


def test_means_by_hand():
    means = TokenStats.of(output_of([0.5, 0.25])).means()
    assert means["nll"] == pytest.approx((math.log(2) + math.log(4)) / 2, rel=1e-6)
    assert means["one_minus_p"] == pytest.approx(1 - 0.375, rel=1e-6)
    assert means["objective"] == pytest.approx((0.5 * math.log(2) + 0.25 * math.log(4)) / 2, rel=1e-6)
    assert means["token_accuracy"] == 0.5  # p = 0.5 ties with the other token, p = 0.25 is beaten
    assert means["effective_tokens"] == pytest.approx(0.75**2 / (2 * (0.25 + 0.0625)), rel=1e-6)


def test_plain_training_uses_every_token():
    assert TokenStats.of(output_of([0.9, 0.01, 0.3], objective="sft")).means()["effective_tokens"] == 1.0


def test_sums_add_up_over_micro_batches():
    whole = TokenStats.of(output_of([0.5, 0.25, 0.1])).means()
    parts = TokenStats.of(output_of([0.5])) + TokenStats.of(output_of([0.25, 0.1]))
    assert parts.means() == pytest.approx(whole, rel=1e-6)


def test_no_tokens_mean_nothing():
    assert TokenStats.zero().means() == {}


def test_low_weights_and_their_histogram():
    stats = TokenStats.of(output_of([0.01, 0.049, 0.051, 0.5, 0.999]))
    assert stats.means()["low_weight_tokens"] == pytest.approx(2 / 5)
    histogram = stats.weight_histogram()
    assert len(histogram) == 20 and sum(histogram) == 5
    assert (histogram[0], histogram[1], histogram[10], histogram[19]) == (2, 1, 1, 1)
    assert TokenStats.of(output_of([0.1, 0.2], objective="sft")).weight_histogram()[19] == 2  # w = 1
    assert stats.mean_weight == pytest.approx((0.01 + 0.049 + 0.051 + 0.5 + 0.999) / 5) and stats.num_tokens == 5


def test_classes_and_routes_are_shifted_like_the_labels():
    output = output_of([0.5, 0.25, 0.1])  # labels (1, 4): the first is never predicted
    stats = TokenStats.of(
        output, classes=torch.tensor([[3, 0, 5, 5]]), routes=torch.tensor([[9, 1, 1, 0]]), num_routes=3
    )
    classes, routes = stats.class_means(), stats.route_means()
    assert set(classes) == {0, 5} and set(routes) == {0, 1}
    assert classes[0] == pytest.approx({"tokens": 1, "p": 0.5, "weight": 0.5, "nll": math.log(2)}, rel=1e-6)
    assert classes[5] == pytest.approx({"tokens": 2, "p": 0.175, "weight": 0.175, "nll": math.log(40) / 2}, rel=1e-6)
    assert routes[1] == pytest.approx({"tokens": 2, "nll": math.log(8) / 2, "weight": 0.375}, rel=1e-6)


def test_labels_shifted_before_keep_their_keys():
    logits = torch.log(torch.tensor([[[0.5, 0.5], [0.1, 0.9], [0.3, 0.7]]]))
    output = logits_loss(logits, torch.tensor([[0, -100, 1]]), objective="dft", shift=False)
    stats = TokenStats.of(output, classes=torch.tensor([[0, 3, 5]]))
    assert {key: row["p"] for key, row in stats.class_means().items()} == pytest.approx({0: 0.5, 5: 0.7})


def test_ignored_labels_may_have_any_key():
    output = output_of([0.5])
    stats = TokenStats.of(output, routes=torch.tensor([[-100, 0]]), num_routes=1)
    assert stats.route_means()[0]["tokens"] == 1
    with pytest.raises((IndexError, RuntimeError), match="out of"):
        TokenStats.of(output, routes=torch.tensor([[0, 1]]), num_routes=1)


def test_keys_of_another_shape_are_refused():
    with pytest.raises(InputError, match="shape"):
        TokenStats.of(output_of([0.5, 0.5]), classes=torch.zeros(1, 5, dtype=torch.int64))
    with pytest.raises(InputError, match="num_routes"):
        TokenStats.of(output_of([0.5]), routes=torch.zeros(1, 2, dtype=torch.int64))


def test_everything_adds_up_over_splits_and_ranks():
    torch.manual_seed(1)
    logits, labels = 3 * torch.randn(6, 9, 11), torch.randint(0, 11, (6, 9))
    labels[torch.rand(6, 9) < 0.3] = -100
    labels[4] = -100  # a rank without a token
    classes, routes = torch.randint(0, 6, (6, 9)), torch.randint(0, 2, (6, 9))

    def of(rows):
        output = logits_loss(logits[rows], labels[rows], objective="eaft")
        return TokenStats.of(output, classes=classes[rows], routes=routes[rows], num_routes=2)

    whole = of(slice(0, 6))
    parts = TokenStats.zero(num_routes=2)
    for rows in (slice(0, 1), slice(1, 4), slice(4, 5), slice(5, 6)):
        parts = parts + of(rows)
    assert parts.sums.dtype == torch.float64 and parts.sums.shape == (62,)
    torch.testing.assert_close(parts.sums, whole.sums, rtol=1e-6, atol=0)
    assert parts.means()["entropy"] > 0 and "kl" not in parts.means()
    assert sum(row["tokens"] for row in whole.class_means().values()) == whole.num_tokens
    assert sum(row["tokens"] for row in whole.route_means().values()) == whole.num_tokens
    assert of(slice(4, 5)).means() == {} and of(slice(4, 5)).class_means() == {}


def test_entropy_is_averaged_over_the_tokens_that_have_one():
    uniform = torch.zeros(1, 3, 4)
    labels = torch.tensor([[0, 1, 2]])
    without, with_entropy = (logits_loss(uniform, labels, objective=name) for name in ("dft", "eaft"))
    assert "entropy" not in TokenStats.of(without).means()
    both = TokenStats.of(without) + TokenStats.of(with_entropy)
    assert both.means()["entropy"] == pytest.approx(math.log(4), rel=1e-6)
