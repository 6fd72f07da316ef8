"""The frozen reference of an adapter run: the same model with its adapter switched off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dft_plugin.errors import ConflictError, IntegrationError

# Keys that trainers put beside the model's own inputs.
_NOT_FOR_THE_MODEL = frozenset(
    {"labels", "loss_scale", "channel", "compute_loss_func", "text_position_ids", "_prediction_loss_only"}
)


def model_inputs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a trainer's inputs that the model's own forward takes, without labels."""
    return {key: value for key, value in inputs.items() if key not in _NOT_FOR_THE_MODEL}


def require_adapter(model: Any) -> None:
    """Check that `model` can be its own reference.

    Raises:
        ConflictError: it has no adapter to switch off.
    """
    if not hasattr(model, "disable_adapter"):
        raise ConflictError(
            "the objective compares with the model the run starts from, which a full fine-tuning run overwrites. Train "
            "with LoRA: the reference is the model without its adapter."
        )


def reference_forward(model: Any, inputs: Mapping[str, Any]) -> Tensor:
    """`outputs.logits` of the model without its adapter, no dropout, no gradients.

    Args:
        model: The PEFT model without wrappers.
        inputs: What the trainer hands to its loss; what is not for the model is left out.
    """
    was_training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad(), model.disable_adapter():
            outputs = model(**model_inputs(inputs))
    finally:
        for module in was_training:
            module.training = True
    if outputs.logits is None:
        raise IntegrationError("the model returned no logits for the reference; a fused kernel hides them.")
    logits: Tensor = outputs.logits.detach()
    return logits
