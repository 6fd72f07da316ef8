"""Tags that a label carries besides its token, so that they survive packing, padding, truncation and splitting.

Training frameworks move a sample through tokenization, packing, collation and sequence splitting, and drop every
column they do not know. Labels they move as opaque integers. So where an objective needs to know more of a token
than its id, it travels in the upper bits of the label itself, and is taken off in front of the loss:

    bits 0-18   the token id
    bit  19     1 where bits 21-44 are the sample's weight, 0 where they are the reference
    bit  20     1 on the first kept token of each sample: where packed neighbours begin
    bits 21-44  1 + the reference's -log p in steps of 2^-17 nats (0: none): exact to 4e-6 nats, up to 127 nats;
                or the sample's weight, a float32 rounded to 17 significant bits: exact to 8e-6 of itself
    bits 45-62  key of the data source (0: none)

A label has room for a reference or a weight, not for both.

A tagged label that reaches a loss which does not take it off lies outside every vocabulary and is refused there.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dft_plugin.errors import InputError

_TOKEN_BITS, _KIND_BIT, _START_BIT, _VALUE_SHIFT, _VALUE_BITS, _ROUTE_SHIFT, _ROUTE_BITS = 19, 19, 20, 21, 24, 45, 18
_REF_STEPS = 1 << 17
_FLOAT_SHIFT = 7  # bits of a non-negative float32 that a weight does not keep
MAX_TOKENS = 1 << _TOKEN_BITS
MAX_REF_NLL = 127.0
MAX_WEIGHT = 2.0**64


class TaggedLabels(NamedTuple):
    """Labels with what they carried, each of the shape of the labels, int64 or float32.

    Attributes:
        labels: Plain token ids; `ignore_index` where nothing is trained.
        segments: Number of the sample within its row.
        routes: Key of the data source, 0 where none.
        ref_logps: log p under the reference, in nats; NaN where none.
        weights: Weight of the sample; NaN where none.
    """

    labels: Tensor
    segments: Tensor
    routes: Tensor
    ref_logps: Tensor
    weights: Tensor


def route_key(name: str) -> int:
    """Key of a data source, in [1, 2^18); the same in every process and run."""
    return zlib.crc32(name.encode()) % ((1 << _ROUTE_BITS) - 1) + 1


def tag_labels(
    labels: Sequence[int],
    *,
    route: int = 0,
    ref_logps: Sequence[float] | None = None,
    weight: float | None = None,
    ignore_index: int = -100,
) -> list[int]:
    """One sample's labels with tags.

    Args:
        labels: Token ids, `ignore_index` where nothing is trained.
        route: Key of its data source.
        ref_logps: log p of each kept label under the reference, in their order, in nats.
        weight: Weight of the sample, in place of a reference.
        ignore_index: The label that means "no loss here".

    Raises:
        InputError: a vocabulary that does not fit, reference values that do not fit the labels, a weight that is
            none, or both.
    """
    if ref_logps is not None and weight is not None:
        raise InputError("a reference and a weight for one sample; a label has room for one of them.")
    kept = [position for position, label in enumerate(labels) if label != ignore_index]
    if ref_logps is not None and len(ref_logps) != len(kept):
        raise InputError(f"{len(ref_logps)} reference log-probabilities for {len(kept)} trained tokens of a sample.")
    tagged = list(labels)
    for rank, position in enumerate(kept):
        label = labels[position]
        if not 0 <= label < MAX_TOKENS:
            raise InputError(f"label {label}; token ids from 0 to {MAX_TOKENS - 1} can be tagged.")
        tag = (rank == 0) << _START_BIT | route << _ROUTE_SHIFT
        if ref_logps is not None:
            tag |= (1 + _steps(ref_logps[rank])) << _VALUE_SHIFT
        if weight is not None:
            tag |= 1 << _KIND_BIT | _weight_bits(weight) << _VALUE_SHIFT
        tagged[position] = label | tag
    return tagged


def untag_labels(labels: Tensor, *, ignore_index: int = -100) -> TaggedLabels:
    """Take the tags off.

    Args:
        labels: int64, shape (..., T), made of `tag_labels`.
        ignore_index: The label that means "no loss here".
    """
    is_kept = labels != ignore_index
    bits = labels.where(is_kept, 0)
    value = (bits >> _VALUE_SHIFT) & ((1 << _VALUE_BITS) - 1)
    is_weight = ((bits >> _KIND_BIT) & 1).bool()
    ref_nll = (value - 1).to(torch.float32) / _REF_STEPS
    return TaggedLabels(
        labels=(bits & (MAX_TOKENS - 1)).where(is_kept, ignore_index),
        segments=((bits >> _START_BIT) & 1).cumsum(-1),
        routes=bits >> _ROUTE_SHIFT,
        ref_logps=(-ref_nll).where((value > 0) & ~is_weight, torch.nan),
        weights=(value << _FLOAT_SHIFT).to(torch.int32).view(torch.float32).where(is_weight, torch.nan),
    )


def sample_starts(labels: Tensor, *, ignore_index: int = -100) -> Tensor:
    """Tagged labels of which only the first of each sample is kept: counting them counts the samples.

    Args:
        labels: int64, shape (..., T), made of `tag_labels`.
        ignore_index: The label that means "no loss here".
    """
    is_start = (labels != ignore_index) & ((labels >> _START_BIT) & 1).bool()
    return labels.where(is_start, ignore_index)


def plain_labels(labels: Sequence[int], *, ignore_index: int = -100) -> list[int]:
    """One sample's token ids without tags, for printing."""
    return [label if label == ignore_index else label & (MAX_TOKENS - 1) for label in labels]


def _steps(logp: float) -> int:
    if not -MAX_REF_NLL <= logp <= 1e-3:
        raise InputError(f"reference log-probability {logp!r}; numbers from -{MAX_REF_NLL:g} to 0 are accepted.")
    return round(max(-logp, 0.0) * _REF_STEPS)


def _weight_bits(weight: float) -> int:
    if not 0 <= weight <= MAX_WEIGHT:
        raise InputError(f"sample weight {weight!r}; finite numbers from 0 to {MAX_WEIGHT:g} are accepted.")
    (bits,) = struct.unpack("<I", struct.pack("<f", weight))
    return int(bits + (1 << (_FLOAT_SHIFT - 1))) >> _FLOAT_SHIFT
