"""Reference log-probabilities of tokenized samples under a saved model, as the data column `ref_logps`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def reference_columns(model: Path, encoded: Iterable[tuple[Sequence[int], Sequence[int]]]) -> list[dict[str, Any]]:
    """One column value for each (input_ids, labels)."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from dft_plugin.training.sample_tags import reference_column

    tokenizer = AutoTokenizer.from_pretrained(model)
    net = AutoModelForCausalLM.from_pretrained(model).eval()
    columns = []
    for input_ids, labels in encoded:
        with torch.no_grad():
            log_probs = net(input_ids=torch.tensor([list(input_ids)])).logits[0].log_softmax(-1)
        logps = [float(log_probs[t - 1, label]) for t, label in enumerate(labels) if label != -100]
        columns.append(reference_column(labels, logps, tokenizer))
    return columns
