"""The loss of one ms-swift trainer: what swift's `loss_map` builds for each of our names."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from swift.loss.base import BaseLoss
from swift.sequence_parallel import sequence_parallel
from swift.template import Template
from swift.trainers import Seq2SeqTrainer
from swift.utils import get_logger
from torch import Tensor
from torch.distributed.nn.functional import all_reduce

from dft_plugin.errors import ConflictError, IntegrationError
from dft_plugin.integrations.ms_swift.settings import CALLBACK, FRAMEWORK, refuse_split_sequences, requested_loss
from dft_plugin.integrations.ms_swift.token_losses import Predictions, token_losses
from dft_plugin.monitor.callback import LossMonitor
from dft_plugin.patching import require_parameters
from dft_plugin.training.trainer_loss import TrainerLoss


class DftLoss(BaseLoss):
    """The configured objective for a causal `Seq2SeqTrainer`, with its metrics and its monitor.

    swift hands a loss function flattened, gathered scales, and under sequence parallelism it would have
    weighted a second per-token loss with them; so the trainer's `compute_loss` is wrapped on the
    instance and the scales are kept as the collator made them. Nothing is replaced on a class.

    `loss_<channel>` (`--enable_channel_loss`) stays what plain training reports: cross-entropy per channel.

    Attributes:
        loss: The run's loss; computes and remembers.
        monitor: The callback that announces, records and proves it.
    """

    def __init__(self, args: Any, trainer: Any) -> None:
        super().__init__(args, trainer)
        config = requested_loss(args)
        if config is None:
            raise IntegrationError(f"loss_type={args.loss_type!r} names no objective of dft-plugin.")
        _require_token_loss(args, trainer)
        refuse_split_sequences(config, trainer.template.sequence_parallel_size)
        self.loss = TrainerLoss(config)
        stage = "sft" if trainer.template.use_chat_template else "pt"  # the trainer's own rule
        self.monitor = _AttachingMonitor(self.attach, self.loss, framework=FRAMEWORK, stage=stage, logger=get_logger())
        self._is_attached = False
        self._wrap(trainer)

    def attach(self, model: Any) -> None:
        """Choose the path once there is a model; swift builds the loss before its trainer has one."""
        if self._is_attached:
            return
        self._is_attached = True
        obstacle = (
            "torch_compile traces the model before the loss is known to its head" if self.args.torch_compile else ""
        )
        if self._is_split and self.args.enable_channel_loss:
            obstacle = "enable_channel_loss under sequence parallelism gathers losses from the logits"
        self.loss.attach(model, tokenizer=self.trainer.template.tokenizer, obstacle=obstacle)

    def __call__(self, outputs: Any, labels: Tensor, **_: Any) -> Tensor:
        """Return the scalar loss of one forward.

        Args:
            outputs: The model's output with its logits (B, T, V).
            labels: Shape (B, T); under sequence parallelism this rank's share, shifted already.

        Raises:
            IntegrationError: no logits, or the trainer's `compute_loss` is not the one wrapped here.
        """
        if not self.loss.is_open:
            raise IntegrationError(
                "the trainer's compute_loss was replaced after dft-plugin attached to it; loss_scale and the token "
                "count would be lost. Remove the other plugin."
            )
        loss = self.loss(outputs, labels)
        if self.loss.keeps_added and outputs.get("aux_loss") is not None:
            outputs["aux_loss"] = None  # in the loss already; swift would add it a second time
            mode = "train" if self.trainer.model.training else "eval"
            self.trainer.custom_metrics[mode].pop(
                "aux_loss", None
            )  # the router loss before its coefficient, under our name
        fused = self.loss.fused_output
        if fused is not None:
            outputs.logits = Predictions(fused, labels, is_shifted=not self._is_split)  # for token_acc
        return _sum_over_sequence(loss) if self._is_split else loss

    @property
    def _is_split(self) -> bool:
        """Say whether this rank holds a share of each sequence."""
        return bool(self.trainer.template.sequence_parallel_size > 1)

    def _added_scale(self, labels: Tensor | None, token_scale: Tensor | None, num_items: Any) -> Tensor | float | None:
        """Return the factor of swift's own loss; None where swift computes it without the model, as for loss scales."""
        if labels is None or token_scale is not None or self.args.enable_channel_loss or self._is_split:
            return None
        if num_items is None:
            return 1.0
        counted: Tensor = self.loss.countable([{"labels": labels}])[0]["labels"]
        share: Tensor = (counted[:, 1:] != -100).sum() / num_items
        return share

    def _count(self, labels: Tensor) -> Tensor | None:
        """Count the kept tokens of one evaluation batch, which transformers does not."""
        if torch.is_grad_enabled():
            raise IntegrationError(
                "transformers did not count the tokens of the optimiser step, so micro-batches would be weighted "
                "wrongly. Install a tested ms-swift and transformers; see `dft doctor`."
            )
        return _sum_over_sequence((labels != -100).sum()) if self._is_split else None

    def _wrap(self, trainer: Any) -> None:
        require_parameters(trainer.compute_loss, ("model", "inputs"), label=f"{FRAMEWORK}: Seq2SeqTrainer.compute_loss")
        require_parameters(trainer.log, ("logs",), label=f"{FRAMEWORK}: Seq2SeqTrainer.log")
        compute_loss, log, prediction_step = trainer.compute_loss, trainer.log, trainer.prediction_step
        count = trainer._get_num_items_in_batch
        require_parameters(count, ("batch_samples",), label=f"{FRAMEWORK}: Seq2SeqTrainer._get_num_items_in_batch")

        @functools.wraps(compute_loss)
        def compute_loss_with_scale(model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            self.attach(trainer.model)
            token_scale = inputs.get("loss_scale")
            if not self.args.enable_channel_loss:
                inputs.pop("loss_scale", None)  # else swift makes another float32 copy of the logits for it
            labels, num_items_in_batch = inputs.get("labels"), kwargs.get("num_items_in_batch")
            if num_items_in_batch is None and labels is not None:
                num_items_in_batch = self._count(labels)
            forward = self.loss.forward(
                model,
                inputs,
                num_items_in_batch=num_items_in_batch,
                token_scale=token_scale,
                shift=not self._is_split,
                wants_logits=not trainer.model.training and trainer.compute_metrics is not None,
                added_scale=self._added_scale(labels, token_scale, num_items_in_batch),
            )
            with forward as inputs, token_losses(self.loss):
                return compute_loss(model, inputs, *args, **kwargs)

        @functools.wraps(count)
        def count_trained(batch_samples: Any, *args: Any, **kwargs: Any) -> Any:
            batches = self.loss.countable(batch_samples) if trainer.model.training else batch_samples
            return count(batches, *args, **kwargs)

        @functools.wraps(log)
        def log_with_metrics(logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
            is_training = trainer.model.training  # the trainer's own rule
            if not is_training or "loss" in logs:
                mode = "train" if is_training else "eval"
                window = self.loss.pop_window(mode, device=trainer.args.device)
                metrics = self.monitor.window(trainer.state.global_step, mode, window, epoch=trainer.state.epoch)
                logs.update({key if is_training else f"eval_{key}": value for key, value in metrics.items()})
            log(logs, *args, **kwargs)

        @functools.wraps(prediction_step)
        def prediction_step_with_plain_labels(model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            # swift cuts and splits the labels further in, and what they carry with them: plain are those for metrics
            loss, logits, labels = prediction_step(model, inputs, *args, **kwargs)
            return loss, logits, self.loss.plain_labels(labels)

        trainer.dft_loss = self
        trainer.prediction_step = prediction_step_with_plain_labels
        trainer.compute_loss = compute_loss_with_scale
        trainer._get_num_items_in_batch = count_trained
        trainer.log = log_with_metrics
        if CALLBACK not in self.args.callbacks:  # read right after the loss was built
            self.args.callbacks = [*self.args.callbacks, CALLBACK]


class _AttachingMonitor(LossMonitor):
    """The monitor, with the path chosen before it is announced."""

    def __init__(self, attach: Callable[[Any], None], loss: TrainerLoss, **kwargs: Any) -> None:
        super().__init__(loss, **kwargs)
        self._attach = attach

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Attach on every rank, then announce."""
        self._attach(kwargs["model"])
        super().on_train_begin(args, state, control, **kwargs)


def _require_token_loss(args: Any, trainer: Any) -> None:
    """Refuse a trainer made in Python, past the command line's checks, that has no token loss."""
    template = trainer.template
    if not isinstance(trainer, Seq2SeqTrainer) or trainer.task_type != "causal_lm" or template.is_encoder_decoder:
        raise ConflictError(
            f"loss_type={args.loss_type} in {type(trainer).__name__} (task_type={trainer.task_type}): it has no "
            "next-token loss; a Seq2SeqTrainer with a decoder-only causal_lm is accepted. Remove loss_type."
        )
    if type(template).compute_sft_loss is not Template.compute_sft_loss:
        raise ConflictError(
            f"loss_type={args.loss_type} with {type(template).__name__}, which computes a loss of its own. "
            "Remove loss_type."
        )


def _sum_over_sequence(value: Tensor) -> Tensor:
    """Sum over the ranks that share a sequence; the gradient is multiplied by their number, as swift's gather does.

    The trainer averages gradients over every rank and counts each token once per rank of its sequence.
    """
    for group in (sequence_parallel.sp_group, sequence_parallel.rp_group):
        if group is not None:
            value = all_reduce(value, group=group)  # type: ignore[no-untyped-call]
    return value
