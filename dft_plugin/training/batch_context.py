"""What the objective knows of the tokens of one forward besides their labels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor

from dft_plugin.core.context import TokenContext
from dft_plugin.core.label_tags import MAX_TOKENS, TaggedLabels, untag_labels
from dft_plugin.core.objective import Objective
from dft_plugin.core.reduction import DeviceCheck
from dft_plugin.errors import InputError
from dft_plugin.training.loss_head import LossHead
from dft_plugin.training.mean_weight import MeanWeight
from dft_plugin.training.reference_model import reference_forward
from dft_plugin.training.sequence_nll import StepSequences


class BatchContext:
    """The context of the forward under way; empty between forwards."""

    def __init__(self) -> None:
        self._tokens = TokenContext()

    def tokens(self, mean_weight: MeanWeight | None, sequences: StepSequences | None) -> TokenContext:
        """What `linear_loss` and `logits_loss` take, with what the steps before left."""
        return replace(
            self._tokens,
            mean_weight=None if mean_weight is None else mean_weight.value,
            sequence_nll=None if sequences is None else sequences.value,
        )

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
        return untag_labels(labels).labels if _carried(objective) else labels

    @contextmanager
    def taken_from(self, inputs: dict[str, Any], objective: Objective) -> Iterator[dict[str, Any]]:
        """`inputs` with plain labels; what they carried is the context while this is open.

        Raises:
            InputError: labels that do not carry what the objective needs.
        """
        labels = inputs.get("labels")
        carries = _carried(objective)
        if not carries or labels is None or self._tokens.segments is not None:
            yield inputs
            return
        tagged = untag_labels(labels)
        before = self._tokens
        self._tokens = TokenContext(
            ref_logps=tagged.ref_logps,
            segments=tagged.segments,
            routes=tagged.routes if "routes" in carries else None,
            checks=(_untagged(labels, tagged, objective),),
        )
        try:
            yield {**inputs, "labels": tagged.labels}
        finally:
            self._tokens = before

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


def _carried(objective: Objective) -> frozenset[str]:
    """What labels carry for `objective`."""
    return objective.needs & {"routes", "segments", "sequence_nll", "ref_logps"}


def _untagged(labels: Tensor, tagged: TaggedLabels, objective: Objective) -> DeviceCheck:
    """Labels that do not carry what the objective needs; looked at where the loss waits for the device anyway."""
    kept = labels != -100
    is_wrong = ~(kept & (labels >= MAX_TOKENS)).any() & kept.any()  # no label has a tag at all
    if "ref_logps" in objective.needs:
        is_wrong |= (kept & tagged.ref_logps.isnan()).any()
    if "routes" in objective.needs:
        is_wrong |= (kept & (tagged.routes == 0)).any()
    return DeviceCheck(
        is_wrong,
        lambda: InputError(
            f"the labels do not carry what objective {objective.name!r} needs of each token: the data was tokenized "
            "for another loss_config. Tokenize it again (remove tokenized_path, or the cached dataset)."
        ),
    )
