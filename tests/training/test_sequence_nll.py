"""The step's sequence statistics: by hand, whatever the micro-batches and packing, saved and restored."""

import dataclasses

import pytest
import torch

from dft_plugin import logits_loss
from dft_plugin.core.objective import NO_STEP_BEFORE
from dft_plugin.training.sequence_nll import StepSequences

VOCAB = 7


@pytest.fixture
def batch():
    """Three sequences of different lengths as (logits, labels), the last without a trained token."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([[-100, 1, 2, 3], [-100, -100, 4, 5], [-100, 6, 1, -100], [-100] * 4])
    return torch.randn(4, 4, VOCAB, generator=generator, dtype=torch.float64), labels


def ended(*calls):
    sequences = StepSequences()
    for logits, labels, segments in calls:
        sequences.add(logits_loss(logits, labels, objective="dft"), segments)
    sequences.end_step("cpu")
    return sequences


def assert_same(found, truth):
    assert dataclasses.astuple(found) == pytest.approx(dataclasses.astuple(truth), rel=1e-12)


def test_statistics_by_hand_for_any_micro_batches(batch):
    logits, labels = batch
    nll = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none")
    means = sorted(float(row.sum() / (row > 0).sum()) for row in nll[:3])
    whole = ended((logits, labels, None)).value
    assert whole.median == pytest.approx(means[1], rel=1e-6)
    assert whole.mean == pytest.approx(sum(means) / 3, rel=1e-6)
    assert whole.std == pytest.approx((sum((x - whole.mean) ** 2 for x in means) / 3) ** 0.5, rel=1e-6)
    split = ended((logits[:1], labels[:1], None), (logits[1:], labels[1:], None)).value
    assert_same(split, whole)


def test_packed_sequences_are_told_apart(batch):
    logits, labels = batch
    packed = (logits.reshape(1, -1, VOCAB), labels.reshape(1, -1))
    segments = torch.arange(4).repeat_interleave(4)[None] + 1
    assert_same(ended((*packed, segments)).value, ended((logits, labels, None)).value)
    assert ended((*packed, None)).value.std == 0, "one sequence"


def test_a_step_without_tokens_changes_nothing_and_a_checkpoint_goes_on(batch):
    logits, labels = batch
    empty = ended((logits[3:], labels[3:], None))
    assert empty.value == NO_STEP_BEFORE and empty.state() == {}
    before = ended((logits, labels, None))
    resumed = StepSequences()
    resumed.restore(before.state())
    assert resumed.value == before.value != NO_STEP_BEFORE
