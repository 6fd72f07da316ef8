"""Memory of a GPU in a run, computed from shapes; an orientation, never measured."""

from __future__ import annotations

import math

from tests.examples.table import NUM_GPUS, Run

_GIB = 2**30
_HEAD_ROWS = 1024  # of the fused loss, the most of a chunk


def peak_gib(run: Run) -> int | None:
    """GiB of each of eight GPUs, rounded up; None where the framework generates during training."""
    if run.arm.online:
        return None
    return math.ceil((_states(run) + _activations(run) + _head(run)) / _GIB)


def _states(run: Run) -> float:
    """Weights and gradients in bfloat16, float32 weights and both AdamW moments; as ZeRO shards them."""
    params = run.model.shape.params
    if run.row.tuner == "lora":
        return 2 * params  # the adapter itself is below 1%
    reference = 2 * params if run.arm_name == "dpo" else 0  # a copy on each GPU under ZeRO-2
    if run.model.deepspeed == "zero3":
        return 16 * params / NUM_GPUS + reference
    return 2 * params + 14 * params / NUM_GPUS + reference


def _tokens(run: Run) -> int:
    rows = run.settings.spread()[0] * (2 if run.arm.preference else 1)  # a pair is two rows
    return rows * run.settings.max_length


def _activations(run: Run) -> float:
    """Inputs of each layer, which gradient checkpointing keeps, and the inside of one."""
    shape = run.model.shape
    return 2.0 * _tokens(run) * (shape.layers * shape.hidden + 10 * shape.hidden + 5 * shape.intermediate)


def _head(run: Run) -> float:
    """The head's float32 gradient and a chunk of logits; or all logits in three float32 copies, without our loss."""
    shape = run.model.shape
    if run.arm.loss_type is None:
        return 12.0 * _tokens(run) * shape.vocab
    return 4.0 * shape.vocab * (shape.hidden + 2 * _HEAD_ROWS)
