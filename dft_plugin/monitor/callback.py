"""Reports of a run about its loss: banner, record in the output folder, proof after step one, curves."""

from __future__ import annotations

import json
import logging
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from dft_plugin import __version__
from dft_plugin.errors import LossNotLiveError
from dft_plugin.frameworks import framework_version
from dft_plugin.monitor.window_log import WindowLog
from dft_plugin.run_record import RECORD_NAME, state_of_resumed, write_json
from dft_plugin.training.gathered_stats import Window
from dft_plugin.training.trainer_loss import TrainerLoss

CARD_HEADING = "## Training objective"


class LossMonitor(TrainerCallback):
    """Announces the loss at step 0, writes it down, and stops a run whose loss is not ours.

    Args:
        loss: The run's loss.
        framework: Distribution name of the framework, a key of `frameworks.TESTED`.
        stage: The framework's own word for the kind of training.
        logger: The framework's logger, so that the banner is seen where its other messages are.
    """

    def __init__(self, loss: TrainerLoss, *, framework: str, stage: str, logger: logging.Logger) -> None:
        self._loss = loss
        self._framework = framework_version(framework)
        self._stage = stage
        self._logger = logger
        self._is_proven = False
        self._windows = WindowLog(logger)

    def record(self) -> dict[str, Any]:
        """The run's loss and the versions that computed it."""
        return {
            "schema_version": 2,
            **self._loss.config.record(),
            "state": self._loss.step_before.state(),
            "path": self._loss.path.name,
            "path_reason": self._loss.path.reason,
            "logit_transform": self._loss.path.transform,
            "framework": self._framework.name,
            "framework_version": self._framework.found,
            "stage": self._stage,
            "dft_plugin_version": __version__,
            "transformers_version": version("transformers"),
            "torch_version": version("torch"),
        }

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Banner and record, on the main process; once the path is settled, which may take the first forward.

        Raises:
            ConflictError: a resumed run that began with another loss.
        """
        record = self.record()
        path = Path(args.output_dir) / RECORD_NAME
        # ms-swift alone has the option; such a run is a new one that counts its steps from the checkpoint's
        is_resumed = state.global_step > 0 and not getattr(args, "resume_only_model", False)
        checkpoint = _checkpoint(args, state)
        if is_resumed:
            self._loss.step_before.restore(state_of_resumed(checkpoint, Path(args.output_dir), record))
        if not state.is_world_process_zero:
            return
        self._loss.path.announce = lambda: self._announce(path)
        if self._loss.path.is_settled:
            self._announce(path)
        self._windows.begin(
            Path(args.output_dir),
            resumed_step=state.global_step if is_resumed else 0,
            previous=checkpoint.parent if is_resumed else None,
            warmup_steps=args.get_warmup_steps(state.max_steps),
        )

    def _announce(self, path: Path) -> None:
        """The banner, and the record in `path`."""
        record = self.record()
        options = ", ".join(f"{key}={value}" for key, value in self._loss.config.chosen().items())
        reason = f" ({record['path_reason']})" if record["path_reason"] else ""
        transform = f" with {record['logit_transform']}" if record["logit_transform"] else ""
        self._logger.info(
            f"dft: {self._stage} trainer loss -> {record['loss_type']}{f' ({options})' if options else ''}, "
            + (f"fused in lm_head{transform}" if record["path"] == "fused" else f"on the logits path{reason}")
            + f", in {self._framework.name} {self._framework.found}; eval_loss stays plain cross-entropy"
        )
        write_json(path, record)

    def window(self, step: int, mode: str, window: Window, *, epoch: float | None = None) -> dict[str, float]:
        """Take in what was gathered since the last log; call on every rank, the main process writes and warns.

        Args:
            step: Optimiser step.
            mode: "train", or the prefix of an evaluation's metrics, such as "eval".
            window: The statistics over all ranks.
            epoch: Where the data are.

        Returns:
            Flat scalars for the framework's own logs, without prefix.
        """
        return self._windows.log(step, mode, window, epoch=epoch)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The curves as PNG and page, on the main process."""
        self._windows.end(self.record())

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set the progress of an annealed objective; on every rank."""
        self._loss.begin_step(state.global_step / max(state.max_steps, 1))

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """The record, and the section of the model card where there is one, in each checkpoint."""
        folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        if not state.is_world_process_zero or not folder.is_dir():
            return
        write_json(folder / RECORD_NAME, self.record())
        card = folder / "README.md"
        if card.exists() and CARD_HEADING not in (text := card.read_text(encoding="utf-8")):
            card.write_text(text + self.describe(), encoding="utf-8")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """The step's mean weight, and proof after the first step; on every rank.

        Raises:
            LossNotLiveError: the step did not go through our loss.
        """
        self._loss.end_step(args.device)
        if self._is_proven:
            return
        if not self._loss.num_training_calls:
            raise LossNotLiveError(
                f"loss_type={self._loss.config.objective.name} was asked for, but the first training step never "
                "computed it: another plugin or a patched trainer replaced the loss. Remove it, or train without "
                "loss_type."
            )
        self._is_proven = True
        if state.is_world_process_zero and self._loss.path.filter_report is not None:
            self._logger.info(f"dft: {self._loss.path.filter_report}")

    def describe(self) -> str:
        """The section a model card carries."""
        record = self.record()
        lines = [f"- {key}: `{json.dumps(value)}`" for key, value in record.items()]
        return f"\n{CARD_HEADING}\n\nTrained with dft-plugin; `eval_loss` is plain cross-entropy.\n\n" + (
            "\n".join(lines) + "\n"
        )


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    """The folder a run resumes from: as it was named, else the one of its step in the output folder."""
    named = args.resume_from_checkpoint
    is_folder = isinstance(named, str) and Path(named).is_dir()
    return Path(named) if is_folder else Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
