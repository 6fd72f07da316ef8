"""Tags of labels: everything put in comes out, in any order and packing."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dft_plugin import linear_loss
from dft_plugin.core.label_tags import MAX_TOKENS, plain_labels, route_key, tag_labels, untag_labels
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


def test_keys_are_the_same_in_every_process():
    assert route_key("facts") == 13_149
    assert 0 < route_key("") < 1 << 18
