"""The log-probability a causal language model gives to each target, without its logits where that is exact."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dft_plugin.core.logits_loss import logits_loss
from dft_plugin.core.objectives import get_objective
from dft_plugin.core.reduction import LossOutput
from dft_plugin.errors import InputError, IntegrationError
from dft_plugin.training.loss_head import LossHead, find_head

logger = logging.getLogger(__name__)


class NotFiniteError(InputError):
    """The model gave a target a log-probability that is not finite.

    Attributes:
        row: The first sequence of the batch that has one.
    """

    def __init__(self, message: str, row: int) -> None:
        super().__init__(message)
        self.row = row


def target_logps(model: torch.nn.Module, inputs: Mapping[str, Any], labels: Tensor) -> Tensor:
    """The log-probability of each target of one batch; see `TargetScorer`, which serves several.

    Args:
        model: A transformers causal language or image-text model without wrappers, in evaluation mode.
        inputs: What its forward takes, on its device.
        labels: Token ids, int64, shape (B, T), not shifted; -100 where ignored.

    Returns:
        In nats, float64, shape (B, T - 1), on the CPU: entry t belongs to label t + 1; 0 where that is ignored.

    Raises:
        InputError: as `TargetScorer`.
    """
    return TargetScorer(model)(inputs, labels)


class TargetScorer:
    """Takes the log-probabilities of a model's targets, batch after batch.

    The first batch costs two forwards: the first shows what the model does to its logits, bit for bit. Where the loss
    in `lm_head` cannot be exact, the model makes its logits.

    Args:
        model: A transformers causal language or image-text model without wrappers, in evaluation mode.

    Attributes:
        path: `fused`, or `logits` where the fused loss would not be exact; settled by the first batch.
        path_reason: Why it is `logits`.

    Raises:
        InputError: the model is in training mode.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        if model.training:
            raise InputError("the model is in training mode, where dropout changes its probabilities; call .eval().")
        self._model = model
        self.path, self.path_reason = "fused", ""
        self._head: LossHead | None = None
        choice = find_head(model)
        if choice.head is not None:
            self._head = LossHead(choice.head, chunk_size=None, must_verify=True)
        else:
            self._take_logits_path(choice.reason)

    @torch.no_grad()
    def __call__(self, inputs: Mapping[str, Any], labels: Tensor) -> Tensor:
        """The log-probability of each target, in nats, computed in float32 from whatever the model computes in.

        Args:
            inputs: What the model's forward takes, on its device: `input_ids` int64 (B, T), `attention_mask`, images.
            labels: Token ids, int64, shape (B, T), not shifted; -100 where ignored.

        Returns:
            float64, shape (B, T - 1), on the CPU: entry t belongs to label t + 1; 0 where that is ignored.

        Raises:
            LabelOutOfRangeError: a label that is neither -100 nor in the vocabulary.
            NotFiniteError: a value that is not finite.
            IntegrationError: the model changed its logits otherwise than in the first batch.
        """
        inputs = {**inputs, "use_cache": False}
        try:
            token_nll = self._token_nll(inputs, labels)
        except IntegrationError:  # a NaN equals nothing, so a broken model looks like one that is not understood
            token_nll = logits_loss(self._model(**inputs).logits, labels, objective="sft").token_nll
            if token_nll.isfinite().all():
                raise
        logps = 0 - token_nll.double().cpu()  # 0 - x: an ignored target is no -0.0
        bad_rows = (~logps.isfinite()).any(1).nonzero()
        if bad_rows.numel():
            row = int(bad_rows[0])
            raise NotFiniteError(
                f"sequence {row} of the batch: the model's probabilities are not finite in {_dtype_name(self._model)}; "
                "load it in float32.",
                row,
            )
        return logps

    def _token_nll(self, inputs: Mapping[str, Any], labels: Tensor) -> Tensor:
        if self._head is not None and not self._head.is_proven:
            reason = self._head.prove(self._model, {**inputs, "labels": labels})
            if reason:
                self._take_logits_path(reason)
        return self._output(inputs, labels).token_nll

    def _output(self, inputs: Mapping[str, Any], labels: Tensor) -> LossOutput:
        if self._head is None:
            return logits_loss(self._model(**inputs).logits, labels, objective="sft")
        with self._head.computing(labels, get_objective("sft"), num_items_in_batch=None) as head_pass:
            outputs = self._model(**inputs)
        assert head_pass.output is not None
        head_pass.loss_from(outputs.logits)
        if bool(head_pass.has_changed):
            raise IntegrationError(
                "the model changed what lm_head returned otherwise than in its first forward; the probabilities of "
                "this batch may be wrong. Please report this with the output of `dft doctor --json`."
            )
        return head_pass.output

    def _take_logits_path(self, reason: str) -> None:
        self._head, self.path, self.path_reason = None, "logits", reason
        logger.warning("dft: the probabilities are taken from the model's logits, because %s", reason)


def _dtype_name(model: torch.nn.Module) -> str:
    return str(next(model.parameters()).dtype).removeprefix("torch.")
