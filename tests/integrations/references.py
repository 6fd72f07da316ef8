"""Reference log-probabilities of tokenized samples under a saved model, as the data column `ref_logps`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def reference_columns(model: Path, encoded: Iterable[tuple[Sequence[int], Sequence[int]]]) -> list[dict[str, Any]]:
    """One column value for each (input_ids, labels)."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from dft_plugin.analysis.target_logps import target_logps
    from dft_plugin.training.sample_tags import reference_column

    tokenizer = AutoTokenizer.from_pretrained(model)
    net = AutoModelForCausalLM.from_pretrained(model).eval()
    columns = []
    for input_ids, labels in encoded:
        targets = torch.tensor([list(labels)])
        logps = target_logps(net, {"input_ids": torch.tensor([list(input_ids)])}, targets)[targets[:, 1:] != -100]
        columns.append(reference_column(labels, logps.tolist(), tokenizer))
    return columns
