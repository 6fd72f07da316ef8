"""The fused loss inside the model's own `lm_head` call, so that the logits are never made.

ZeRO-3 gathers a module's weight, DDP and FSDP follow its graph, and autocast sets its dtype around the
module's call: computing the loss there keeps all of it right. While a `computing` block is open, the
head's `forward` takes hidden states (..., T, H) and returns the scalar loss where the logits would be; the
model hands it on as `outputs.logits`, and `HeadPass.loss_from` checks that it is still that scalar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dft_plugin.core.context import TokenContext
from dft_plugin.core.linear_loss import linear_loss
from dft_plugin.core.objective import Objective
from dft_plugin.core.reduction import LossOutput
from dft_plugin.errors import IntegrationError
from dft_plugin.training.verification import verify_fused


class HeadChoice(NamedTuple):
    """Whether the fused loss fits a model.

    Attributes:
        head: The vocabulary projection to compute the loss in; None where the logits path must be taken.
        reason: Why there is none, for the log.
    """

    head: nn.Linear | None
    reason: str = ""


def find_head(model: nn.Module) -> HeadChoice:
    """The vocabulary projection of `model`, if its logits are exactly a plain linear map of its input."""
    base: Any = model
    if hasattr(base, "get_base_model"):  # PEFT's wrapper
        base = base.get_base_model()
    if not hasattr(base, "get_output_embeddings"):
        return HeadChoice(None, f"{type(model).__name__} does not name its output embeddings")
    transform = _logit_transform(base)
    if transform:
        return HeadChoice(None, f"the model changes its logits after lm_head ({transform})")
    head = base.get_output_embeddings()
    if hasattr(head, "modules_to_save"):  # PEFT trains a copy of the whole head
        head = head.modules_to_save[head.active_adapters[0]]
    if not isinstance(head, nn.Linear) or type(head).forward is not nn.Linear.forward:
        return HeadChoice(None, f"lm_head is a {type(head).__module__}.{type(head).__qualname__}, not a plain Linear")
    if "forward" in vars(head) or hasattr(head, "parametrizations"):
        return HeadChoice(None, "another library already replaced lm_head's forward or weight")
    return HeadChoice(head)


def _logit_transform(model: Any) -> str:
    """The setting by which `model` scales or caps its logits; the names transformers uses, empty where none does."""
    config = model.config.get_text_config()
    identities = {"final_logit_softcapping": (None,), "logits_scaling": (None, 1), "logit_scale": (None, 1)}
    for name, harmless in identities.items():
        value = getattr(config, name, None)
        if value not in harmless:
            return f"{name}={value}"
    return ""


@dataclass
class HeadPass:
    """One forward of the model with the loss computed in its head."""

    labels: Tensor
    num_items_in_batch: Tensor | int | None
    token_scale: Tensor | None
    shift: bool
    objective: Objective
    context: TokenContext
    output: LossOutput | None = None
    is_taken: bool = False

    def loss_from(self, logits: Tensor, *, compare_value: bool) -> Tensor:
        """The loss as the model handed it on, with whatever graph the wrappers around it added.

        Args:
            logits: `outputs.logits` of the model.
            compare_value: Whether to also compare its value, which waits for the device.

        Raises:
            IntegrationError: it is no longer the scalar that the head returned.
        """
        assert self.output is not None
        is_same = logits.dim() == 0
        if is_same and compare_value:
            is_same = bool(torch.isclose(logits.detach().float(), self.output.loss.detach().float(), rtol=1e-5))
        if not is_same:
            raise IntegrationError(
                "the model changes its logits after lm_head in a way dft-plugin does not know, so the fused loss "
                "would be wrong. Set `fused: false` in loss_config to train the same objective on the logits path."
            )
        self.is_taken = True
        return logits


class LossHead:
    """Computes an objective in the forward of one `nn.Linear`.

    Args:
        head: The vocabulary projection.
        chunk_size: See `linear_loss`.
        must_verify: Whether to compare the first micro-batch with the float32 logits path.
    """

    def __init__(self, head: nn.Linear, *, chunk_size: int | None, must_verify: bool) -> None:
        self._head = head
        self._chunk_size = chunk_size
        self._must_verify = must_verify

    @contextmanager
    def computing(
        self,
        labels: Tensor,
        objective: Objective,
        *,
        num_items_in_batch: Tensor | int | None,
        context: TokenContext | None = None,
        token_scale: Tensor | None = None,
        shift: bool = True,
    ) -> Iterator[HeadPass]:
        """While open, the next call of the head computes the loss of `labels` (..., T).

        Raises:
            IntegrationError: on leaving, the head had not been called exactly once.
        """
        this_pass = HeadPass(labels, num_items_in_batch, token_scale, shift, objective, context or TokenContext())

        def forward(hidden: Tensor) -> Tensor:
            this_pass.output = self._compute(hidden, this_pass)
            return this_pass.output.loss

        with self._replaced(forward):
            yield this_pass

    @contextmanager
    def passing_hidden(self) -> Iterator[None]:
        """While open, the next call of the head returns its hidden states where the logits would be."""
        with self._replaced(lambda hidden: hidden):
            yield

    @contextmanager
    def _replaced(self, compute: Callable[[Tensor], Tensor]) -> Iterator[None]:
        num_calls = 0

        def forward(hidden: Tensor) -> Tensor:
            nonlocal num_calls
            num_calls += 1
            return compute(hidden)

        # an instance attribute: hooks of the module still run, and deleting it restores the class's forward
        self._head.forward = forward  # type: ignore[assignment, method-assign]
        try:
            yield
        finally:
            del self._head.forward
        if num_calls != 1:
            raise IntegrationError(
                f"lm_head ran {num_calls} times in one forward of the model; the fused loss needs exactly one. "
                "Set `fused: false` in loss_config to train the same objective on the logits path."
            )

    def _compute(self, hidden: Tensor, this_pass: HeadPass) -> LossOutput:
        if hidden.shape[:-1] != this_pass.labels.shape:
            raise IntegrationError(
                f"lm_head got hidden states {tuple(hidden.shape)} for labels {tuple(this_pass.labels.shape)}: the "
                "model keeps other positions than the labels. Set `fused: false` in loss_config."
            )
        if self._must_verify:
            self._must_verify = not verify_fused(
                hidden,
                self._head,
                this_pass.labels,
                this_pass.objective,
                this_pass.context,
                shift=this_pass.shift,
                chunk_size=self._chunk_size,
            )
        return linear_loss(
            hidden,
            self._head.weight,
            this_pass.labels,
            bias=self._head.bias,
            objective=this_pass.objective,
            num_items_in_batch=this_pass.num_items_in_batch,
            shift=this_pass.shift,
            token_scale=this_pass.token_scale,
            chunk_size=self._chunk_size,
            context=this_pass.context,
        )
