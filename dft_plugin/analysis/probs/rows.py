"""Rows that are the same tokens for every checkpoint, or are refused."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Mapping, Sequence

import torch

from dft_plugin.encoding.encoder import Encoder, Sample
from dft_plugin.encoding.row_formats import Row
from dft_plugin.errors import InputError


def check_same_tokens(encoders: Mapping[str, Encoder], rows: Sequence[Row]) -> str:
    """Check that every checkpoint's tokenizer and chat template make the same of every row.

    Args:
        encoders: By the checkpoint's name.
        rows: What is measured.

    Returns:
        Sha256 over all tokens and labels.

    Raises:
        InputError: they do not; names the checkpoint, the row and the token.
    """
    (first_name, first), *others = encoders.items()
    digest = hashlib.sha256()
    for row in rows:
        sample = first.encode(row)
        for name, encoder in others:
            if difference := _difference(sample, encoder.encode(row)):
                raise InputError(
                    f"checkpoints {first_name!r} and {name!r} read other tokens: dataset {row.dataset!r}, {row.where}: "
                    f"{difference}. Only probabilities of the same tokens can be compared; give every checkpoint the "
                    "same tokenizer and chat template, or measure them apart."
                )
        digest.update(array("q", sample.input_ids).tobytes() + b"|" + array("q", sample.labels).tobytes())
    return digest.hexdigest()


def _difference(first: Sample, other: Sample) -> str:
    """First difference in words; empty where there is none."""
    for kind, of_first, of_other in (
        ("token", first.input_ids, other.input_ids),
        ("label", first.labels, other.labels),
    ):
        for position, (a, b) in enumerate(zip(of_first, of_other, strict=False)):
            if a != b:
                return f"{kind} {position} is {a} and {b}"
        if len(of_first) != len(of_other):
            return f"{len(of_first)} and {len(of_other)} tokens"
    keys = first.tensors.keys()
    if keys != other.tensors.keys() or not all(torch.equal(first.tensors[key], other.tensors[key]) for key in keys):
        return "the images are prepared otherwise"
    return ""
