"""The path a run computes its loss on: fused in `lm_head`, or from the logits that the model makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from dft_plugin.config import SharedOptions
from dft_plugin.core.objective import Objective
from dft_plugin.errors import ConflictError
from dft_plugin.training.added_loss import AddedLoss
from dft_plugin.training.filter_check import FilterReport
from dft_plugin.training.loss_head import LossHead, find_head


class LossPath:
    """The path of one run: wanted by its options, chosen for its model, settled by the first forward.

    Attributes:
        name: "fused" (inside lm_head, no logits) or "logits".
        reason: Why the logits path was taken; empty where it was asked for.
        head: Where the fused loss is computed; None on the logits path.
        announce: Called when the path is settled, which takes the first forward where the fused loss is wanted.
    """

    def __init__(self, shared: SharedOptions) -> None:
        self._shared = shared
        self.name = "logits"
        self.reason = ""
        self.head: LossHead | None = None
        self.announce: Callable[[], None] = lambda: None

    def choose(self, model: nn.Module, objective: Objective, *, obstacle: str) -> None:
        """Take the fused path where that is exact, as far as can be seen before a forward, and not switched off.

        Args:
            model: The model as the trainer holds it, adapters included, wrappers not.
            objective: What is trained.
            obstacle: What in the trainer's settings rules the fused path out; empty where nothing does.

        Raises:
            ConflictError: `fused: true` or `gradient_filter` was asked for and the fused loss cannot be exact.
        """
        if self._shared.fused is False:
            return
        choice = find_head(model)
        self.reason = obstacle or choice.reason
        is_head_trained = choice.head is not None and choice.head.weight.requires_grad
        if not self.reason and is_head_trained and "ref_logits" in objective.needs:
            self.reason = "the reference's lm_head is not the trained one"
        if choice.head is None or self.reason:
            self._refuse_logits()
            return
        self.name = "fused"
        self.head = LossHead(
            choice.head,
            chunk_size=self._shared.chunk_size,
            must_verify=self._shared.verify,
            gradient_filter=self._shared.filter_bound,
        )

    def settle(self, model: nn.Module, inputs: Mapping[str, Any], added_loss: AddedLoss | None = None) -> None:
        """Before the first forward of a mode: prove the fused path, or leave it; every rank must call.

        Args:
            model: The model without wrappers.
            inputs: What the trainer hands to its loss.
            added_loss: What keeps the terms that the model adds to its loss; None where nothing does.

        Raises:
            ConflictError: `fused: true` or `gradient_filter` was asked for and the fused loss cannot be exact.
        """
        if self.head is None or self.head.is_proven:
            return
        is_first = not self.head.is_proven_anywhere
        self.reason = self.head.prove(model, inputs)
        if is_first and not self.reason and added_loss is not None:
            self.reason = added_loss.obstacle(model, inputs, self.head)
        if self.reason:
            self.head, self.name = None, "logits"
            self._refuse_logits()
        if is_first or self.reason:
            self.announce()

    @property
    def is_settled(self) -> bool:
        """Return True where `name` can no longer change in the mode the model is in."""
        return self.head is None or self.head.is_proven

    @property
    def transform(self) -> str:
        """Settings that transform the logits within the fused loss; empty where there are none or they are unknown."""
        return "" if self.head is None or not self.head.is_proven else self.head.transform.source

    @property
    def filter_report(self) -> FilterReport | None:
        """Report of `gradient_filter` on the first micro-batch; None before it and without a filter."""
        return None if self.head is None else self.head.filter_report

    def _refuse_logits(self) -> None:
        if self._shared.fused is True:
            raise ConflictError(
                f"fused=true in loss_config, but {self.reason}. Write `fused: auto` to train the same objective on the "
                "logits path, or change the model."
            )
        if self._shared.filter_bound is not None:
            raise ConflictError(
                f"gradient_filter={self._shared.gradient_filter} in loss_config needs the fused loss, but "
                f"{self.reason}. Remove gradient_filter, or change the model."
            )
