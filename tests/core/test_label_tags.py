"""Tags of labels: everything put in comes out, in any order and packing."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dft_plugin import linear_loss
from dft_plugin.core.label_tags import (
    MAX_TOKENS,
    MAX_WEIGHT,
    plain_labels,
    route_key,
    sample_starts,
    tag_labels,
    untag_labels,
)
from dft_plugin.errors import InputError, LabelOutOfRangeError

LABEL = st.one_of(st.just(-100), st.integers(0, MAX_TOKENS - 1))
SAMPLE = st.lists(st.tuples(LABEL, st.floats(-127, 0)), min_size=1, max_size=9)


@given(samples=st.lists(SAMPLE, min_size=1, max_size=5), padding=st.integers(0, 3), with_reference=st.booleans())
def test_packed_samples_come_back(samples, padding, with_reference):
    packed, routes, segments, logps = [], [], [], []
    started = 0
    for index, sample in enumerate(samples):
        labels = [label for label, _ in sample]
        kept = [logp for label, logp in sample if label != -100]
        packed += tag_labels(labels, route=route_key(str(index)), ref_logps=kept if with_reference else None)
        routes += [route_key(str(index))] * len(kept)
        started += bool(kept)
        segments += [started] * len(kept)
        logps += kept
    found = untag_labels(torch.tensor([packed + [-100] * padding]))
    plain = [label for sample in samples for label, _ in sample]
    assert found.labels[0].tolist() == plain + [-100] * padding
    assert plain_labels(packed) == plain
    is_kept = found.labels[0] != -100
    assert found.routes[0][is_kept].tolist() == routes
    assert found.segments[0][is_kept].tolist() == segments
    if with_reference:
        assert found.ref_logps[0][is_kept].tolist() == pytest.approx(logps, abs=4e-6, rel=1e-6)
    else:
        assert found.ref_logps[0].isnan().all()


def test_a_tagged_label_never_passes_for_a_token():
    labels = torch.tensor([tag_labels([3, 4, 5], route=route_key("facts"))])
    assert bool((labels >= MAX_TOKENS).all())
    with pytest.raises(LabelOutOfRangeError):
        linear_loss(torch.zeros(1, 3, 2), torch.zeros(7, 2), labels)


@pytest.mark.parametrize(
    ("labels", "logps"), [([1, 2], [-1.0]), ([1], [math.nan]), ([1], [-128.0]), ([1], [0.1]), ([MAX_TOKENS], None)]
)
def test_what_does_not_fit_is_refused(labels, logps):
    with pytest.raises(InputError):
        tag_labels(labels, ref_logps=logps)


@given(weight=st.floats(0, MAX_WEIGHT, width=32), labels=st.lists(LABEL, min_size=1, max_size=9))
def test_a_weight_travels_with_every_token_of_its_sample(weight, labels):
    found = untag_labels(torch.tensor([[*tag_labels(labels, route=5, weight=weight), -100]]))
    is_kept = found.labels[0] != -100
    assert found.labels[0].tolist() == [*labels, -100]
    assert found.routes[0][is_kept].tolist() == [5] * int(is_kept.sum())
    assert found.weights[0][is_kept].tolist() == pytest.approx([weight] * int(is_kept.sum()), rel=2**-17, abs=1e-38)
    assert found.ref_logps.isnan().all() and found.weights[0][~is_kept].isnan().all()


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0, 2.0, 100_000.0])
def test_usual_weights_are_exact(weight):
    assert untag_labels(torch.tensor(tag_labels([3], weight=weight))).weights.tolist() == [weight]


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf, 1e30])
def test_what_is_no_weight_is_refused(weight):
    with pytest.raises(InputError, match="sample weight"):
        tag_labels([1], weight=weight)


def test_samples_are_counted_by_their_first_labels():
    packed = [
        *tag_labels([-100, 1, 2]),
        *tag_labels([-100, 3]),
        *tag_labels([-100, -100]),
        *tag_labels([-100, 4, 4, 4]),
    ]
    assert int((sample_starts(torch.tensor([packed, [-100] * len(packed)])) != -100).sum()) == 3


def test_keys_are_the_same_in_every_process():
    assert route_key("facts") == 13_149
    assert 0 < route_key("") < 1 << 18
