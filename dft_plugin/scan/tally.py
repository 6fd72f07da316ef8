"""Sums over the targets of one sample: what a scan keeps of it, and what they add up to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dft_plugin.analysis.target_classes import FORMAT_CLASSES, SUMS, TARGET_CLASSES, means, sums_by_class

NUM_BINS = 20
Sums = NDArray[np.float64]


def tally(nll: Tensor, classes: Tensor) -> dict[str, Any]:
    """Count the tokens of one sample's record.

    Args:
        nll: -log p of its targets in nats, float64, shape (N,).
        classes: Their classes, shape (N,).

    Returns:
        `classes`: by name of a class that occurs, the columns `SUMS`; `histogram`: counts in 20 equal bins of p.
    """
    p = (-nll).exp()
    sums = sums_by_class(nll, classes)
    bins = (p * NUM_BINS).long().clamp(max=NUM_BINS - 1)
    return {
        "classes": {name: row.tolist() for name, row in zip(TARGET_CLASSES, sums, strict=True) if row[0]},
        "histogram": torch.bincount(bins, minlength=NUM_BINS).tolist(),
    }


def sums_of(records: Sequence[Mapping[str, Any]]) -> Sums:
    """Sums of each record by class, shape (records, classes, columns)."""
    sums = np.zeros((len(records), len(TARGET_CLASSES), len(SUMS)))
    for index, record in enumerate(records):
        for name, row in record["classes"].items():
            sums[index, TARGET_CLASSES.index(name)] = row
    return sums


def summarise(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One dataset, or all of them: counts of samples, means over all targets, by class, and the histogram."""
    by_class = sums_of(records).sum(0)
    content = [name not in FORMAT_CLASSES for name in TARGET_CLASSES]
    classes = {name: means(row) for name, row in zip(TARGET_CLASSES, by_class, strict=True) if row[0]}
    histogram = np.sum([record["histogram"] for record in records if record["histogram"]], axis=0, dtype=np.int64)
    return {
        "num_samples": len(records),
        "num_measured": sum(record["status"] == "ok" for record in records),
        "num_truncated": sum(bool(record["is_truncated"]) for record in records),
        "num_no_target": sum(record["status"] == "no_target" for record in records),
        "num_too_long": sum(record["status"] == "too_long" for record in records),
        **means(by_class.sum(0)),
        "eos_mean_p": classes.get("eos", {}).get("mean_p"),
        "content": means(by_class[content].sum(0)),
        "classes": classes,
        "histogram": np.broadcast_to(histogram, NUM_BINS).tolist(),
    }
