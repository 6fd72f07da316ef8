"""What a label can carry besides its token, so that it survives packing, padding, truncation and splitting.

Training frameworks move a sample through tokenization, packing, collation and sequence splitting, and drop every
column they do not know. Labels they move as opaque integers. So where an objective needs to know more of a token
than its id, it travels in the upper bits of the label itself, and is taken off in front of the loss:

    bits 0-19   the token id
    bit  20     1 on the first kept token of each sample: where packed neighbours begin
    bits 21-44  1 + the reference's -log p in steps of 2^-17 nats (0: none): exact to 4e-6 nats, up to 127 nats
    bits 45-62  key of the data source (0: none)

A tagged label that reaches a loss which does not take it off lies outside every vocabulary and is refused there.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dft_plugin.errors import InputError

_TOKEN_BITS, _START_BIT, _REF_SHIFT, _REF_BITS, _ROUTE_SHIFT, _ROUTE_BITS = 20, 20, 21, 24, 45, 18
_REF_STEPS = 1 << 17
MAX_TOKENS = 1 << _TOKEN_BITS
MAX_REF_NLL = 127.0


class TaggedLabels(NamedTuple):
    """Labels with what they carried, each of the shape of the labels, int64 or float32.

    Attributes:
        labels: Plain token ids; `ignore_index` where nothing is trained.
        segments: Number of the sample within its row.
        routes: Key of the data source, 0 where none.
        ref_logps: log p under the reference, in nats; NaN where none.
    """

    labels: Tensor
    segments: Tensor
    routes: Tensor
    ref_logps: Tensor


def route_key(name: str) -> int:
    """Key of a data source, in [1, 2^18); the same in every process and run."""
    return zlib.crc32(name.encode()) % ((1 << _ROUTE_BITS) - 1) + 1


def tag_labels(
    labels: Sequence[int],
    *,
    route: int = 0,
    ref_logps: Sequence[float] | None = None,
    ignore_index: int = -100,
) -> list[int]:
    """One sample's labels with tags.

    Args:
        labels: Token ids, `ignore_index` where nothing is trained.
        route: Key of its data source.
        ref_logps: log p of each kept label under the reference, in their order, in nats.
        ignore_index: The label that means "no loss here".

    Raises:
        InputError: a vocabulary that does not fit, or reference values that do not fit the labels.
    """
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
            tag |= (1 + _steps(ref_logps[rank])) << _REF_SHIFT
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
    steps = (bits >> _REF_SHIFT) & ((1 << _REF_BITS) - 1)
    ref_nll = (steps - 1).to(torch.float32) / _REF_STEPS
    return TaggedLabels(
        labels=(bits & (MAX_TOKENS - 1)).where(is_kept, ignore_index),
        segments=((bits >> _START_BIT) & 1).cumsum(-1),
        routes=bits >> _ROUTE_SHIFT,
        ref_logps=(-ref_nll).where(steps > 0, torch.nan),
    )


def plain_labels(labels: Sequence[int], *, ignore_index: int = -100) -> list[int]:
    """One sample's token ids without tags, for printing."""
    return [label if label == ignore_index else label & (MAX_TOKENS - 1) for label in labels]


def _steps(logp: float) -> int:
    if not -MAX_REF_NLL <= logp <= 1e-3:
        raise InputError(f"reference log-probability {logp!r}; numbers from -{MAX_REF_NLL:g} to 0 are accepted.")
    return round(max(-logp, 0.0) * _REF_STEPS)
