"""A transformers Trainer class with our loss in it: for scripts of one's own, and for frameworks that take none.

Trainer = with_loss(transformers.Trainer, "dft")
Trainer = with_loss(trl.SFTTrainer, "dft", {"option": value})
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

from dft_plugin.config import LossConfig
from dft_plugin.errors import ConflictError
from dft_plugin.frameworks import Probe, warn_if_untested
from dft_plugin.integrations.plain_settings import refuse_conflicts, refuse_sample_needs, refuse_shifted_labels
from dft_plugin.integrations.predictions import PredictedLogits
from dft_plugin.monitor.callback import LossMonitor
from dft_plugin.patching import require_parameters
from dft_plugin.training.trainer_loss import TrainerLoss

# Classes that `with_loss` is tested on, by distribution.
PLAIN_TRAINERS = {"transformers": "Trainer", "trl": "SFTTrainer"}


def with_loss(base: type[Any], loss_type: str, loss_config: Mapping[str, Any] | str | None = None) -> type[Any]:
    """A subclass of a transformers or TRL trainer, used like it, that trains the objective of that name.

    The loss is fused into `lm_head` where that is exact, `eval_loss` stays plain cross-entropy, and the output folder
    gets the record and the curves.

    Args:
        base: transformers.Trainer, trl.SFTTrainer, or a descendant that leaves the loss to them.
        loss_type: Name of the objective.
        loss_config: Mapping of options, JSON text of one, or None.

    Raises:
        ConfigError: no such objective or option, or one that a plain trainer cannot serve.
        IntegrationError: the class lacks a method we extend, or its signature changed.
    """
    config = LossConfig.parse(loss_type, loss_config)
    refuse_sample_needs(config)

    def configure(trainer: Any) -> LossConfig:
        refuse_conflicts(trainer, config)
        return config

    def get_logger() -> Any:
        from transformers.utils import logging

        return logging.get_logger("transformers.dft_plugin")

    framework = "trl" if any(parent.__module__.startswith("trl.") for parent in base.__mro__) else "transformers"
    stage = base.__name__.removesuffix("Trainer").lower() or "plain"
    extended = trainer_with_loss(base, configure, framework=framework, stage=stage, get_logger=get_logger)
    warn_if_untested(framework)
    return _plain_trainer(extended)


def _plain_trainer(extended: type[Any]) -> type[Any]:
    @functools.wraps(extended, updated=())
    class PlainTrainer(extended):
        _has_no_logits = False

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.compute_loss_func = self._loss_and_predictions

        def _loss_and_predictions(self, outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
            loss = self.dft_loss(outputs, labels, num_items_in_batch)
            fused = self.dft_loss.fused_output
            self._has_no_logits = fused is not None
            if fused is not None:
                outputs.logits = PredictedLogits.of(fused, labels)  # for TRL's mean_token_accuracy
            return loss

        def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            refuse_shifted_labels(inputs)
            result = super().compute_loss(model, inputs, *args, **kwargs)
            if hasattr(self, "_metrics"):  # TRL's
                mode = "train" if self.model.training else "eval"
                if self._has_no_logits:
                    self._metrics[mode].pop("entropy", None)  # of the whole vocabulary: not to be had
                if mode == "train":
                    self._metrics[mode].pop("aux_loss", None)  # before its coefficient, under our name
            return result

        def train(self, resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any) -> Any:
            if isinstance(resume_from_checkpoint, str):
                self.args.resume_from_checkpoint = resume_from_checkpoint  # where the monitor looks for the record
            return super().train(resume_from_checkpoint, *args, **kwargs)

    return PlainTrainer


def probe(framework: str) -> list[Probe]:
    """Say whether the framework's trainer has what we extend; imports it.

    Args:
        framework: A key of `PLAIN_TRAINERS`.
    """
    label = f"extend {framework}.{PLAIN_TRAINERS[framework]}"
    try:
        _require_methods(getattr(importlib.import_module(framework), PLAIN_TRAINERS[framework]))
    except Exception as error:  # noqa: BLE001 - whatever the framework's own import raises is the finding
        return [Probe(label, False, f"{type(error).__name__}: {error}")]
    return [Probe(label, True)]


def _require_methods(original: Any) -> None:
    require_parameters(original.compute_loss, ("model", "inputs"), label=f"{original.__name__}.compute_loss")
    require_parameters(
        original.prediction_step, ("prediction_loss_only",), label=f"{original.__name__}.prediction_step"
    )
    require_parameters(
        original._get_num_items_in_batch, ("batch_samples",), label=f"{original.__name__}._get_num_items_in_batch"
    )
    require_parameters(original.log, ("logs",), label=f"{original.__name__}.log")
    require_parameters(original.evaluation_loop, ("metric_key_prefix",), label=f"{original.__name__}.evaluation_loop")


def trainer_with_loss(
    original: Any,
    configure: Callable[[Any], LossConfig | None],
    *,
    framework: str,
    stage: str,
    get_logger: Callable[[], Any],
) -> type[Any]:
    """A subclass of `original` that trains the configured loss, and is `original` where there is none.

    Args:
        original: Trainer class of the framework, a descendant of transformers.Trainer.
        configure: The loss of a constructed trainer; None leaves it alone.
        framework: Distribution name of the framework.
        stage: The framework's word for the kind of training.
        get_logger: The framework's own logger, for the banner.

    Raises:
        IntegrationError: the class lacks a method we extend, or its signature changed.
    """
    _require_methods(original)

    @functools.wraps(original, updated=())
    class DftTrainer(original):
        is_dft_trainer = True
        dft_loss: TrainerLoss | None = None
        dft_monitor: LossMonitor | None = None
        _metric_wants_logits = False

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            config = configure(self)
            if config is None:
                return
            _refuse_split_sequences(self, config)
            self.dft_loss = TrainerLoss(config)
            tokenizer = getattr(self.processing_class, "tokenizer", self.processing_class)  # a processor holds one
            self.dft_loss.attach(self.model, tokenizer=tokenizer, obstacle=_obstacle(self))
            # Trainer then counts the tokens of the whole step, pops the labels before the forward and does
            # not divide by the accumulation steps again.
            self.compute_loss_func = self.dft_loss
            self.dft_monitor = LossMonitor(self.dft_loss, framework=framework, stage=stage, logger=get_logger())
            self.add_callback(self.dft_monitor)

        def _get_num_items_in_batch(self, batch_samples: Any, *args: Any, **kwargs: Any) -> Any:
            if self.dft_loss is not None and self.model.training:
                batch_samples = self.dft_loss.countable(batch_samples)
            return super()._get_num_items_in_batch(batch_samples, *args, **kwargs)

        def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            if self.dft_loss is None:
                return super().compute_loss(model, inputs, *args, **kwargs)
            forward = self.dft_loss.forward(
                model,
                inputs,
                num_items_in_batch=kwargs.get("num_items_in_batch"),
                wants_logits=self._metric_wants_logits,
                added_scale=_added_scale(self),
            )
            with forward as inputs:
                return super().compute_loss(model, inputs, *args, **kwargs)

        def prediction_step(self, model: Any, inputs: Any, prediction_loss_only: bool, *args: Any, **kw: Any) -> Any:
            if self.dft_loss is None:
                return super().prediction_step(model, inputs, prediction_loss_only, *args, **kw)
            self._metric_wants_logits = not prediction_loss_only
            try:
                with self.dft_loss.batch(inputs) as inputs:  # metrics read the labels too
                    return super().prediction_step(model, inputs, prediction_loss_only, *args, **kw)
            finally:
                self._metric_wants_logits = False

        def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
            if self.dft_loss is not None and "loss" in logs:
                logs.update(self._dft_window("train", "train"))
            super().log(logs, *args, **kwargs)

        def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
            if self.dft_loss is None:
                return super().evaluation_loop(*args, **kwargs)
            self.dft_loss.discard("eval")
            result = super().evaluation_loop(*args, **kwargs)
            prefix = kwargs.get("metric_key_prefix", "eval")
            result.metrics.update({f"{prefix}_{key}": value for key, value in self._dft_window("eval", prefix).items()})
            return result

        def _dft_window(self, mode: str, name: str) -> dict[str, float]:
            assert self.dft_loss is not None and self.dft_monitor is not None
            window = self.dft_loss.pop_window(mode, device=self.args.device)
            return self.dft_monitor.window(self.state.global_step, name, window, epoch=self.state.epoch)

    return DftTrainer


def _added_scale(trainer: Any) -> float:
    """Factor of what the model adds to its loss, relative to what transformers does with a `compute_loss_func`.

    Where the model takes no token count, plain training averages the losses of micro-batches and ranks, terms added
    by the model included.
    """
    if not trainer.model.training or trainer.model_accepts_loss_kwargs:
        return 1.0
    ranks: int = trainer.accelerator.num_processes if trainer.args.average_tokens_across_devices else 1
    num_micro_batches: int = trainer.current_gradient_accumulation_steps
    return 1.0 / (num_micro_batches * ranks)


def _refuse_split_sequences(trainer: Any, config: LossConfig) -> None:
    """Refuse the parallelism in which transformers takes the model's own loss, whatever `compute_loss_func` says."""
    parallelism = getattr(trainer.accelerator, "parallelism_config", None)  # None: no parallelism was configured
    if parallelism is not None and (parallelism.sp_enabled or parallelism.cp_enabled):
        raise ConflictError(
            f"loss_type={config.objective.name} with accelerate's sequence or context parallelism: transformers then "
            "computes plain cross-entropy itself. Set both sizes to 1, or use ms-swift's sequence_parallel_size."
        )


def _obstacle(trainer: Any) -> str:
    """Return the setting of a transformers Trainer that rules the fused path out; empty for none."""
    if trainer.args.torch_compile:
        return "torch_compile=true traces the model before the loss is known to its head"
    return ""
