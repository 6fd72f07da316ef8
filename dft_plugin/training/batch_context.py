"""Context of one forward: facts about its tokens that the objective needs besides their labels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dft_plugin.config import SharedOptions
from dft_plugin.core.context import TokenContext
from dft_plugin.core.label_tags import MAX_TOKENS, TaggedLabels, untag_labels
from dft_plugin.core.objective import Objective
from dft_plugin.core.reduction import DeviceCheck
from dft_plugin.errors import InputError
from dft_plugin.training.loss_head import LossHead
from dft_plugin.training.reference_model import reference_forward
from dft_plugin.training.sample_scale import sample_scale


class BatchContext:
    """The context of the forward under way; empty between forwards."""

    def __init__(self, shared: SharedOptions) -> None:
        self._is_weighted = shared.sample_weight is not None
        self._is_sample_mean = shared.reduction == "sample_mean"
        self._tokens = TokenContext()
        self._tagged: TaggedLabels | None = None

    @property
    def tokens(self) -> TokenContext:
        """The context for `linear_loss` and `logits_loss`, as far as the forward alone tells it."""
        return self._tokens

    @property
    def segments(self) -> Tensor | None:
        """Number of each label's sequence within its row, shape (..., T); None where each row is one sequence."""
        return self._tokens.segments

    @property
    def routes(self) -> Tensor | None:
        """Key of each label's data source, shape (..., T); None where nothing is routed."""
        return self._tokens.routes

    def plain(self, labels: Tensor, objective: Objective) -> Tensor:
        """Plain labels, of labels as the data pipeline made them for `objective`."""
        return untag_labels(labels).labels if self._carries(objective) else labels

    def scaled(self, token_scale: Tensor | None, *, shift: bool) -> Tensor | None:
        """`token_scale` (..., T) times what the samples of the forward under way weigh, while training.

        An evaluation is plain cross-entropy over the tokens, in every arm.
        """
        if self._tagged is None or not (self._is_weighted or self._is_sample_mean) or not torch.is_grad_enabled():
            return token_scale
        scale = sample_scale(
            self._tagged, is_weighted=self._is_weighted, is_sample_mean=self._is_sample_mean, shift=shift
        )
        return scale if token_scale is None else scale * token_scale.to(scale.device)

    def _carries(self, objective: Objective) -> frozenset[str]:
        """Return the tags that labels carry for `objective` and for the options of the run."""
        needs = objective.needs & {"routes", "segments", "sequence_nll", "ref_logps"}
        return needs | ({"samples"} if self._is_weighted or self._is_sample_mean else set())

    @contextmanager
    def taken_from(self, inputs: dict[str, Any], objective: Objective) -> Iterator[dict[str, Any]]:
        """`inputs` with plain labels; what they carried is the context while this is open.

        Raises:
            InputError: labels that do not carry what the objective needs.
        """
        labels = inputs.get("labels")
        carries = self._carries(objective)
        if not carries or labels is None or self._tokens.segments is not None:
            yield inputs
            return
        tagged = untag_labels(labels)
        before = self._tokens
        self._tokens = TokenContext(
            ref_logps=tagged.ref_logps,
            segments=tagged.segments,
            routes=tagged.routes if "routes" in carries else None,
            checks=(_untagged(labels, tagged, objective, is_weighted=self._is_weighted),),
        )
        self._tagged = tagged
        try:
            yield {**inputs, "labels": tagged.labels}
        finally:
            self._tokens, self._tagged = before, None

    @contextmanager
    def with_reference(
        self, model: Any, inputs: dict[str, Any], objective: Objective, head: LossHead | None
    ) -> Iterator[None]:
        """While open, the context has what the frozen reference says of `inputs`, where the objective asks.

        Args:
            model: The PEFT model without wrappers.
            inputs: What its forward takes.
            objective: What is trained.
            head: Where the fused loss will be computed: its hidden states are kept; None: the logits are.
        """
        if "ref_logits" not in objective.needs:
            yield
            return
        before = self._tokens
        if head is None:
            self._tokens = replace(before, ref_logits=reference_forward(model, inputs))
        else:
            with head.capturing_hidden() as captured:
                reference_forward(model, inputs)
            self._tokens = replace(before, ref_hidden=captured[0])
        try:
            yield
        finally:
            self._tokens = before


def _untagged(labels: Tensor, tagged: TaggedLabels, objective: Objective, *, is_weighted: bool) -> DeviceCheck:
    """Labels that do not carry what the objective needs; looked at where the loss waits for the device anyway."""
    kept = labels != -100
    is_wrong = ~(kept & (labels >= MAX_TOKENS)).any() & kept.any()  # no label has a tag at all
    if "ref_logps" in objective.needs:
        is_wrong |= (kept & tagged.ref_logps.isnan()).any()
    if "routes" in objective.needs:
        is_wrong |= (kept & (tagged.routes == 0)).any()
    # weights that nobody asked for would be lost, weights that are missing made up
    is_wrong |= (kept & (tagged.weights.isnan() if is_weighted else ~tagged.weights.isnan())).any()
    return DeviceCheck(
        is_wrong,
        lambda: InputError(
            f"the labels do not carry what objective {objective.name!r} and its options need: the data was tokenized "
            "for another loss_config. Tokenize it again (remove tokenized_path, or the cached dataset)."
        ),
    )
