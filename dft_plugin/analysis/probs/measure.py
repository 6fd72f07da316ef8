"""One checkpoint through all rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.progress import track

from dft_plugin.analysis.pretrained import Dtype, ModelFiles, dtype_name
from dft_plugin.analysis.probs.checkpoints import OpenedCheckpoint
from dft_plugin.analysis.probs.tally import ProbTally
from dft_plugin.analysis.row_scorer import RowScorer, batches
from dft_plugin.analysis.target_classes import target_classes
from dft_plugin.core.token_classes import TokenClasses
from dft_plugin.encoding.encoder import Encoder
from dft_plugin.encoding.images import image_token_of
from dft_plugin.encoding.row_formats import Row
from dft_plugin.errors import InputError


@dataclass(frozen=True)
class Plan:
    """The same for every checkpoint.

    Attributes:
        rows: What is measured.
        encoder: Makes their tokens.
        files: Of the first checkpoint, whose tokenizer names the tokens.
        max_length: Most tokens of a row.
        batch_size: Rows without images at a time.
        dtype: What the models compute in.
        device: cpu or cuda.
    """

    rows: Sequence[Row]
    encoder: Encoder
    files: ModelFiles
    max_length: int
    batch_size: int
    dtype: Dtype
    device: str


def measure(one: OpenedCheckpoint, plan: Plan) -> tuple[ProbTally, dict[str, Any]]:
    """Take a checkpoint's probabilities of all rows.

    Returns:
        The sums, and how they were computed.

    Raises:
        InputError: no target is left, or a value that is not finite; names the row.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        transformers.utils.logging.disable_progress_bar()
    first = plan.files
    token_classes = TokenClasses.of_tokenizer(first.tokenizer, vocab_size=first.config.get_text_config().vocab_size)
    image_ids = [image_token_of(first.processor)[1]] if any(row.images for row in plan.rows) else []
    model = one.load(plan.dtype, plan.device)
    scorer = RowScorer(model, plan.device)
    tally, seen = ProbTally(len(token_classes.table)), {"ok": 0, "no_target": 0, "too_long": 0, "truncated": 0}
    samples = (plan.encoder.encode(row) for row in plan.rows)
    bar = track(
        samples, f"dft probs {one.name}", total=len(plan.rows), console=console, disable=not console.is_terminal
    )
    for batch in batches(bar, plan.batch_size):
        for sample in batch:
            seen[sample.status] += 1
            seen["truncated"] += sample.is_truncated
        if batch[0].status != "ok":
            continue
        for sample, nll in zip(batch, scorer.nlls(batch), strict=True):
            labels = torch.tensor(sample.labels)[1:]
            classes = target_classes(token_classes, sample.input_ids, sample.labels, image_ids)[1:]
            kept = labels >= 0
            tally.add_row(nll[kept], classes[kept], labels[kept])
    if not seen["ok"]:
        raise InputError(
            f"no response of the {len(plan.rows)} rows is left within --max-length {plan.max_length}; raise it."
        )
    described = {
        "path": one.path,
        "weights_sha256": one.weights_sha256,
        "base": one.files.name if one.is_adapter else None,
        "dtype": dtype_name(model),
        "computed": scorer.path,
        "computed_reason": scorer.path_reason,
    }
    return tally, {**described, "rows": seen}
