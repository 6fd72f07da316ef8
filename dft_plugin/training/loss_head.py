"""The fused loss inside the model's own `lm_head` call, so that the logits are never made.

ZeRO-3 gathers a module's weight, DDP and FSDP follow its graph, and autocast sets its dtype around the
module's call: computing the loss there keeps all of it right. While a `computing` block is open, the
head's `forward` takes hidden states (..., T, H) and returns the scalar loss where the logits would be; the
model hands it on as `outputs.logits`. What the model does to logits on that way is found out before, by `prove`,
and is part of the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dft_plugin.core.context import TokenContext
from dft_plugin.core.linear_loss import linear_loss
from dft_plugin.core.objective import Objective
from dft_plugin.core.reduction import LossOutput
from dft_plugin.errors import IntegrationError
from dft_plugin.training.carried_loss import CarriedLoss
from dft_plugin.training.filter_check import FilterReport, measure_filter
from dft_plugin.training.head_probe import probe_forward, probe_values
from dft_plugin.training.logit_transform import LogitTransform, find_transform
from dft_plugin.training.reference_model import model_inputs
from dft_plugin.training.verification import verify_fused


class HeadChoice(NamedTuple):
    """Result of looking for a head that the fused loss fits.

    Attributes:
        head: The vocabulary projection to compute the loss in; None where the logits path must be taken.
        reason: Why there is none, for the log.
    """

    head: nn.Linear | None
    reason: str = ""


def find_head(model: nn.Module) -> HeadChoice:
    """The vocabulary projection of `model`, if it is a plain linear map; what follows it is for `LossHead.prove`."""
    base: Any = model
    if hasattr(base, "get_base_model"):  # PEFT's wrapper
        base = base.get_base_model()
    if not hasattr(base, "get_output_embeddings"):
        return HeadChoice(None, f"{type(model).__name__} does not name its output embeddings")
    head = base.get_output_embeddings()
    if hasattr(head, "modules_to_save"):  # PEFT trains a copy of the whole head
        head = head.modules_to_save[head.active_adapters[0]]
    if not isinstance(head, nn.Linear) or type(head).forward is not nn.Linear.forward:
        return HeadChoice(None, f"lm_head is a {type(head).__module__}.{type(head).__qualname__}, not a plain Linear")
    if "forward" in vars(head) or hasattr(head, "parametrizations"):
        return HeadChoice(None, "another library already replaced lm_head's forward or weight")
    return HeadChoice(head)


class Proof(NamedTuple):
    """Proven transform between the head and the trainer, in one mode of the model.

    Attributes:
        transform: What the model does to its logits.
        dtype: What the head returns.
    """

    transform: LogitTransform
    dtype: torch.dtype


@dataclass
class HeadPass:
    """One forward of the model with the loss computed in its head.

    Attributes:
        output: What the head computed; None before.
        is_taken: Whether the trainer took the loss.
        has_changed: Whether the scalar arrived other than the proof says, a bool on the device; None before.
    """

    labels: Tensor
    num_items_in_batch: Tensor | int | None
    token_scale: Tensor | None
    shift: bool
    objective: Objective
    context: TokenContext
    proof: Proof
    output: LossOutput | None = None
    is_taken: bool = False
    has_changed: Tensor | None = None
    _carried: CarriedLoss | None = field(default=None, repr=False)

    def depart(self, output: LossOutput) -> Tensor:
        """The scalar that the head returns."""
        self.output = output
        self._carried = CarriedLoss(output.loss, self.proof.dtype)
        return self._carried.departed

    def loss_from(self, logits: Tensor) -> Tensor:
        """The loss, behind whatever graph the model and its wrappers added.

        Args:
            logits: `outputs.logits` of the model.

        Raises:
            IntegrationError: it is not what a scalar becomes under the proven transform.
        """
        assert self.output is not None and self._carried is not None
        if logits.dim() != 0:
            raise IntegrationError(
                f"the model made logits of shape {tuple(logits.shape)} from the scalar its lm_head returned, and did "
                "not in the first forward. Set `fused: false` in loss_config to train the same objective on the "
                "logits path."
            )
        expected = self.proof.transform.apply(self.output.loss.detach().to(self.proof.dtype)).to(logits)
        found = logits.detach()
        self.has_changed = (found != expected) & ~(found.isnan() & expected.isnan())
        self.is_taken = True
        return self._carried.arrive(logits)


class LossHead:
    """Computes an objective in the forward of one `nn.Linear`.

    Args:
        head: The vocabulary projection.
        chunk_size: See `linear_loss`.
        must_verify: Whether to compare the first micro-batch with the float32 logits path.
        gradient_filter: See `linear_loss`.

    Attributes:
        filter_report: What the filter does to the first micro-batch; None until then, and without a filter.
    """

    def __init__(
        self, head: nn.Linear, *, chunk_size: int | None, must_verify: bool, gradient_filter: float | None = None
    ) -> None:
        self._head = head
        self._chunk_size = chunk_size
        self._must_verify = must_verify
        self._gradient_filter = gradient_filter
        self.filter_report: FilterReport | None = None
        self._proofs: dict[bool, Proof] = {}

    @property
    def is_proven(self) -> bool:
        """Return True where `prove` succeeded in the mode (training or evaluation) the model is in."""
        return self._head.training in self._proofs

    @property
    def is_proven_anywhere(self) -> bool:
        """Return True where `prove` succeeded in any mode."""
        return bool(self._proofs)

    @property
    def transform(self) -> LogitTransform:
        """Proven transform of the logits in the mode the model is in."""
        return self._proof().transform

    def prove(self, model: nn.Module, inputs: Mapping[str, Any]) -> str:
        """Find out what happens to the head's output before it reaches the trainer, by one forward without gradients.

        Every rank must call: the forward gathers sharded parameters. The answer holds for the mode the model is in.

        Args:
            model: The model without wrappers.
            inputs: What the trainer hands to its loss; of the labels only the shape counts.

        Returns:
            Why the fused loss cannot be exact; empty where it can.
        """
        labels, config = inputs.get("labels"), getattr(model, "config", None)
        sent: list[Tensor] = []
        shapes: list[torch.Size] = []

        def forward(hidden: Tensor) -> Tensor:
            sent.append(probe_values(hidden, self._head))
            shapes.append(hidden.shape[:-1])
            return sent[-1].clone()  # the model may change its logits in place

        try:
            with self._replaced(forward):
                arrived = probe_forward(model, model_inputs(inputs))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            if not sent:  # not a matter of the logits: the forward proper fails likewise, and says why
                raise
            return f"the model does to its logits what a test with chosen values cannot follow ({error!r:.200})"
        if len(sent) != 1:
            return f"lm_head ran {len(sent)} times in one forward of the model"
        if labels is not None and shapes[0] != labels.shape:
            return f"lm_head gets {tuple(shapes[0])} positions for {tuple(labels.shape)} labels"
        if arrived is None:
            return "the model returns no logits"
        transform = find_transform(sent[0], arrived, {} if config is None else config.to_dict())
        if transform is None:
            return "the model changes its logits after lm_head in a way the fused loss does not know"
        self._proofs[self._head.training] = Proof(transform, sent[0].dtype)
        return ""

    def _proof(self) -> Proof:
        proof = self._proofs.get(self._head.training)
        if proof is None:
            raise IntegrationError(
                "the fused loss was asked for before `prove` showed that what lm_head returns reaches the trainer."
            )
        return proof

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
        this_pass = HeadPass(
            labels, num_items_in_batch, token_scale, shift, objective, context or TokenContext(), self._proof()
        )
        with self._called_once(lambda hidden: this_pass.depart(self._compute(hidden, this_pass))):
            yield this_pass

    @contextmanager
    def capturing_hidden(self) -> Iterator[list[Tensor]]:
        """While open, the next call of the head puts its hidden states into the list and returns a zero."""
        captured: list[Tensor] = []

        def forward(hidden: Tensor) -> Tensor:
            captured.append(hidden)
            return hidden.new_zeros(())

        with self._called_once(forward):
            yield captured

    @contextmanager
    def _called_once(self, compute: Callable[[Tensor], Tensor]) -> Iterator[None]:
        num_calls = 0

        def forward(hidden: Tensor) -> Tensor:
            nonlocal num_calls
            num_calls += 1
            return compute(hidden)

        with self._replaced(forward):
            yield
        if num_calls != 1:
            raise IntegrationError(
                f"lm_head ran {num_calls} times in one forward of the model; the fused loss needs exactly one. "
                "Set `fused: false` in loss_config to train the same objective on the logits path."
            )

    @contextmanager
    def _replaced(self, forward: Callable[[Tensor], Tensor]) -> Iterator[None]:
        # an instance attribute: hooks of the module still run, and deleting it restores the class's forward
        self._head.forward = forward  # type: ignore[assignment, method-assign]
        try:
            yield
        finally:
            del self._head.forward

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
                transform=this_pass.proof.transform,
            )
        if self._gradient_filter is not None and self.filter_report is None and hidden.requires_grad:
            self.filter_report = measure_filter(
                hidden,
                self._head,
                this_pass.labels,
                this_pass.objective,
                this_pass.context,
                shift=this_pass.shift,
                chunk_size=self._chunk_size,
                bound=self._gradient_filter,
                logit_scale=this_pass.proof.transform.logit_scale,
                logit_softcap=this_pass.proof.transform.softcap,
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
            logit_scale=this_pass.proof.transform.logit_scale,
            logit_softcap=this_pass.proof.transform.softcap,
            chunk_size=self._chunk_size,
            context=this_pass.context,
            gradient_filter=self._gradient_filter,
        )
