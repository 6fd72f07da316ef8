"""The content of `probs.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dft_plugin.analysis.probs.tally import ProbTally, Values
from dft_plugin.analysis.probs.words import KINDS, kind_of
from dft_plugin.analysis.target_classes import TARGET_CLASSES, means

NUM_LOWEST = 20
NUM_SHIFTED = 30


def checkpoint_record(name: str, described: Mapping[str, Any], tally: ProbTally, tokenizer: Any) -> dict[str, Any]:
    """One entry of `checkpoints`."""
    total = _summary(tally.totals)
    mean_nll, *nll_interval = tally.mean_nll()
    mean_p, *p_interval = tally.mean_p()
    return {
        "name": name,
        **described,
        **total,
        "mean_nll": mean_nll,
        "mean_nll_interval": _interval(nll_interval),
        "mean_p": mean_p,
        "mean_p_interval": _interval(p_interval),
        "histogram": tally.histogram.tolist(),
        "by_class": {label: _summary(row) for label, row in zip(TARGET_CLASSES, tally.classes, strict=True) if row[0]},
        "lowest_bin": _lowest_bin(tally, tokenizer),
        "lowest_bin_kinds": _kinds(tally, tokenizer),
    }


def shift_record(name: str, tally: ProbTally, against: str, first: ProbTally, tokenizer: Any) -> dict[str, Any]:
    """One entry of `shifts`: the change of p from the first checkpoint on the same tokens."""
    counts = tally.tokens[:, 0]
    change = tally.tokens[:, 1] - first.tokens[:, 1]
    order = np.argsort(-np.abs(change), kind="stable")[:NUM_SHIFTED]
    return {
        "checkpoint": name,
        "against": against,
        "mean_change_of_p": _change(tally.totals, first.totals),
        "by_class": {
            label: {"num_tokens": int(row[0]), "mean_change_of_p": _change(row, before)}
            for label, row, before in zip(TARGET_CLASSES, tally.classes, first.classes, strict=True)
            if row[0]
        },
        "tokens": [
            {
                "token": token_text(tokenizer, int(index)),
                "id": int(index),
                "count": int(counts[index]),
                "summed_change_of_p": float(change[index]),
                "mean_change_of_p": float(change[index] / counts[index]),
            }
            for index in order
            if change[index]
        ],
    }


def token_text(tokenizer: Any, token: int) -> str:
    """A token as text; as the vocabulary writes it where it is only a part of a character."""
    text = str(tokenizer.decode([token]))
    return text if text and "\ufffd" not in text else str(tokenizer.convert_ids_to_tokens(token))


def _summary(columns: Values) -> dict[str, Any]:
    found = means(columns.tolist())
    return {
        "num_tokens": found["num_tokens"],
        "mean_p": found["mean_p"],
        "mean_nll": found["nll"],
        "share_below_0.05": found["share_p_below_0.05"],
        "share_above_0.95": found["share_p_above_0.95"],
    }


def _interval(ends: Sequence[float | None]) -> list[float] | None:
    return None if None in ends else [float(end) for end in ends if end is not None]


def _change(after: Values, before: Values) -> float:
    return float((after[1] - before[1]) / after[0])


def _lowest_bin(tally: ProbTally, tokenizer: Any) -> list[dict[str, Any]]:
    """The commonest tokens of p < 0.05."""
    counts, low = tally.tokens[:, 0], tally.tokens[:, 2]
    order = np.argsort(-low, kind="stable")[:NUM_LOWEST]
    return [
        {
            "token": token_text(tokenizer, int(index)),
            "id": int(index),
            "count": int(low[index]),
            "share_of_bin": float(low[index] / low.sum()),
            "share_of_token": float(low[index] / counts[index]),
        }
        for index in order
        if low[index]
    ]


def _kinds(tally: ProbTally, tokenizer: Any) -> dict[str, dict[str, float | None]]:
    """Share of each kind of word among tokens of p < 0.05, and among all: a claim about the bin needs both."""
    sums = {kind: np.zeros(2) for kind in KINDS}
    for index in np.flatnonzero(tally.tokens[:, 0]):
        sums[kind_of(token_text(tokenizer, int(index)))] += tally.tokens[index, [2, 0]]
    num_low, num_all = (float(sum(row[column] for row in sums.values())) for column in (0, 1))
    return {
        kind: {
            "share_of_bin": float(row[0]) / num_low if num_low else None,
            "share_of_all": float(row[1]) / num_all,
        }
        for kind, row in sums.items()
    }
