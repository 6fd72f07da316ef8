"""Token statistics: by hand, and whatever the split."""

import math

import pytest
import torch

from dft_plugin import logits_loss
from dft_plugin.core.token_stats import TokenStats


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
