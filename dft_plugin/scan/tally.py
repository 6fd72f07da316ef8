"""Sums over the targets of one sample: what a scan keeps of it, and what they add up to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dft_plugin.analysis.token_probs import HIGH, LOW
from dft_plugin.core.token_classes import CLASSES, EOS, TokenClasses

NUM_BINS = 20
SCAN_CLASSES = (*CLASSES, "after_end")
"""The token classes, and what a chat template writes after the end of a turn (a newline, mostly)."""
FORMAT_CLASSES = ("eos", "template", "after_end")
"""Classes that say how a response is wrapped, not what it says."""
SUMS = ("num_tokens", "sum_p", "sum_p_squared", "sum_nll", "num_low", "num_high")
"""Columns of a tally; low is p < 0.05, high is p > 0.95."""

Sums = NDArray[np.float64]


def scan_classes(token_classes: TokenClasses, input_ids: Sequence[int], labels: Sequence[int], images: Any) -> Tensor:
    """Index into `SCAN_CLASSES` of each label.

    Args:
        token_classes: Of the tokenizer.
        input_ids: The tokens.
        labels: The same, or -100.
        images: Ids that stand for images in `input_ids`.
    """
    classes = token_classes.classify(torch.tensor(labels), torch.tensor(input_ids), tuple(images))
    has_ended = False
    for position, label in enumerate(labels):
        if label < 0:
            has_ended = False
        elif has_ended:
            classes[position] = len(CLASSES)
        else:
            has_ended = bool(classes[position] == EOS)
    return classes


def tally(nll: Tensor, classes: Tensor) -> dict[str, Any]:
    """Count the tokens of one sample's record.

    Args:
        nll: -log p of its targets in nats, float64, shape (N,).
        classes: Their classes, shape (N,).

    Returns:
        `classes`: by name of a class that occurs, the columns `SUMS`; `histogram`: counts in 20 equal bins of p.
    """
    p = (-nll).exp()
    columns = torch.stack([torch.ones_like(p), p, p * p, nll, (p < LOW).double(), (p > HIGH).double()], dim=1)
    sums = torch.zeros(len(SCAN_CLASSES), len(SUMS), dtype=torch.float64).index_add_(0, classes, columns)
    bins = (p * NUM_BINS).long().clamp(max=NUM_BINS - 1)
    return {
        "classes": {name: row.tolist() for name, row in zip(SCAN_CLASSES, sums, strict=True) if row[0]},
        "histogram": torch.bincount(bins, minlength=NUM_BINS).tolist(),
    }


def sums_of(records: Sequence[Mapping[str, Any]]) -> Sums:
    """Sums of each record by class, shape (records, classes, columns)."""
    sums = np.zeros((len(records), len(SCAN_CLASSES), len(SUMS)))
    for index, record in enumerate(records):
        for name, row in record["classes"].items():
            sums[index, SCAN_CLASSES.index(name)] = row
    return sums


def means(columns: Sums) -> dict[str, Any]:
    """Readable means of one row of sums.

    Returns:
        `effective_tokens` is (sum p)^2 / (N sum p^2), the share of tokens that would carry DFT's gradient (Kish's
        effective sample size over N); 1 for plain training.
    """
    num_tokens, sum_p, sum_p_squared, sum_nll, num_low, num_high = (float(value) for value in columns)
    if not num_tokens:
        return {"num_tokens": 0}
    return {
        "num_tokens": int(num_tokens),
        "mean_p": sum_p / num_tokens,
        "nll": sum_nll / num_tokens,
        "share_p_below_0.05": num_low / num_tokens,
        "share_p_above_0.95": num_high / num_tokens,
        "effective_tokens": sum_p**2 / (num_tokens * sum_p_squared) if sum_p_squared else 0.0,
    }


def summarise(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One dataset, or all of them: counts of samples, means over all targets, by class, and the histogram."""
    by_class = sums_of(records).sum(0)
    content = [name not in FORMAT_CLASSES for name in SCAN_CLASSES]
    classes = {name: means(row) for name, row in zip(SCAN_CLASSES, by_class, strict=True) if row[0]}
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
