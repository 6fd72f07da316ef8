"""The losses of objectives with a reference, from two models in memory: float64, one row at a time, no code of ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

OBJECTIVES = {
    "prift": {},
    "iw_sft": {},
    "asft": {"kl": "target_k3", "kl_coef": 0.5},
}


def load(folder: Path, *, is_image_model: bool) -> Any:
    """A model in float64."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    cls = AutoModelForImageTextToText if is_image_model else AutoModelForCausalLM
    return cls.from_pretrained(folder, dtype=torch.float64).eval()


def losses(policy: Any, reference: Any, batches: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Loss of an optimiser step over all rows, by objective.

    Args:
        policy: The model that is trained.
        reference: The frozen one.
        batches: Each row alone, as the framework collates it, with `labels`.
    """
    totals, count = dict.fromkeys(OBJECTIVES, 0.0), 0
    for batch in batches:
        inputs = {key: value for key, value in batch.items() if key != "labels"}
        labels = batch["labels"][0, 1:]
        kept = labels != -100
        logps, ref_logps = (_logps(model, inputs, labels, kept) for model in (policy, reference))
        weights = {
            "prift": ref_logps.exp(),
            "iw_sft": (logps - ref_logps).mean().exp().clamp(0, 16).expand_as(logps),
            "asft": logps.exp() + 0.5 * ((ref_logps - logps).exp() - 1),
        }
        count += int(kept.sum())
        for name, weight in weights.items():
            totals[name] -= float((weight * logps).sum())
    return {name: total / count for name, total in totals.items()}


@torch.no_grad()
def _logps(model: Any, inputs: Mapping[str, Any], labels: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    logits = model(**inputs, use_cache=False).logits[0, :-1][kept]
    return logits.log_softmax(-1).gather(-1, labels[kept][:, None])[:, 0]
