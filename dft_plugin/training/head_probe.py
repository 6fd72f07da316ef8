"""The proof that what `lm_head` returns reaches the trainer: one forward with chosen values in the logits' place.

The values have full mantissas, both signs and magnitudes from 2^-6 to 2^14, and no two rows or columns are alike:
a scale, cap, bias, mask, slice, permutation or narrowing cast changes some of them. The comparison has no tolerance.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# Logits made for the proof at most, but three positions always: few beside a micro-batch's own.
_MAX_LOGITS = 1 << 22
_MIN_POSITIONS = 3


def probe_values(hidden: Tensor, head: nn.Linear) -> Tensor:
    """Return the probe's logits: of the dtype and shape of the head's output, with fewer positions where it is large.

    Args:
        hidden: What the head was called with, shape (..., T, H).
        head: The vocabulary projection.
    """
    row = nn.Linear.forward(head, hidden[..., :1, :])
    num_positions = max(_MIN_POSITIONS, _MAX_LOGITS // max(row.numel(), 1))
    shape = (*row.shape[:-2], min(num_positions, hidden.shape[-2]), row.shape[-1])
    generator = torch.Generator().manual_seed(0)  # its own: the run's random numbers stay as they are
    mantissa = torch.rand(shape, generator=generator, dtype=torch.float64) + 1
    exponent = torch.randint(-6, 14, shape, generator=generator)
    sign = torch.randint(0, 2, shape, generator=generator) * 2 - 1
    return torch.ldexp(mantissa * sign, exponent).to(device=row.device, dtype=row.dtype)


def probe_forward(model: nn.Module, inputs: Mapping[str, Any]) -> Any:
    """Return `outputs.logits` of `untraced_forward`."""
    outputs = untraced_forward(model, inputs)
    return outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", None)


def untraced_forward(model: nn.Module, inputs: Mapping[str, Any]) -> Any:
    """Return the outputs of one forward without gradients, after which random state and buffers are put back.

    Args:
        model: The model without wrappers, in the mode it is trained or evaluated in.
        inputs: What its forward takes.
    """
    with torch.no_grad(), _kept_random_state(model), _kept_buffers(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gradient checkpointing warns where nothing needs a gradient
        return model(**inputs)


@contextmanager
def _kept_random_state(model: nn.Module) -> Iterator[None]:
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextmanager
def _kept_buffers(model: nn.Module) -> Iterator[None]:
    kept = [
        (module, name, buffer, buffer.clone(), buffer._version)
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    try:
        yield
    finally:
        for module, name, buffer, value, found_version in kept:
            module._buffers[name] = buffer
            if buffer._version != found_version:
                buffer.copy_(value)
