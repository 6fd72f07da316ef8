"""Settings of an ms-swift run, read from its arguments; a contradiction is an error before anything is loaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from dft_plugin.config import ENV_LOSS_CONFIG, LossConfig, require_loss_type
from dft_plugin.core.objectives import OBJECTIVES
from dft_plugin.errors import ConfigError, ConflictError, OptionError, UnknownObjectiveError
from dft_plugin.frameworks import warn_if_untested

FRAMEWORK = "ms-swift"
CALLBACK = "dft_monitor"
"""Name of the monitor in swift's `callbacks_map`."""
FRAMEWORK_FLAGS = (
    *("enable_dft_loss", "label_smoothing_factor", "use_liger_kernel", "tuner_backend"),
    *("task_type", "enable_channel_loss", "external_plugins", "sequence_parallel_size"),
)
# TRL's preference losses have one of our names among their own; there it keeps TRL's meaning.
_PREFERENCE_LOSSES = frozenset({"sft"})


_ATTRIBUTE = "dft_loss_config"
"""Attribute of an argument object that holds its parsed loss; absent where none was asked for."""


def requested_loss(args: Any) -> LossConfig | None:
    """Return the loss an argument object asks us for, parsed and checked once; None where it names none of ours.

    Args:
        args: swift's command line arguments of any command, or its training arguments.

    Raises:
        UnknownObjectiveError: neither an objective nor a `loss_type` of swift's.
        OptionError: an option the objective does not take.
        ConflictError: settings that contradict each other, or a command whose loss is not a token loss.
    """
    config: LossConfig | None = getattr(args, _ATTRIBUTE, None)
    if config is None:
        config = _read(args)
        if config is not None:
            _refuse_conflicts(args)
            # Not among the training arguments; there the template knows it, and `DftLoss` asks again.
            refuse_split_sequences(config, getattr(args, "sequence_parallel_size", 1))
            hand_on(config, args)
    return config


def hand_on(config: LossConfig, args: Any) -> None:
    """Let `requested_loss(args)` return `config`; a plain attribute, because swift copies fields by name."""
    setattr(args, _ATTRIBUTE, config)


def _read(args: Any) -> LossConfig | None:
    # Absent on commands that train nothing.
    loss_type = getattr(args, "loss_type", None)
    # Absent where swift parsed its arguments before we were loaded: then there is no such flag.
    flag = getattr(args, "loss_config", None)
    if _refuse_other_commands(args, loss_type, flag):
        return None
    if loss_type is None or loss_type not in OBJECTIVES:
        _refuse_unknown(args, loss_type, flag)
        return None
    return _parse(loss_type, flag, os.environ.get(ENV_LOSS_CONFIG) or None)


def resumed_checkpoint(args: Any) -> Path | None:
    """Return the checkpoint that a run resumes from with its optimiser; None for every other run and command."""
    checkpoint = getattr(args, "resume_from_checkpoint", None)  # absent on commands that train nothing
    return None if not checkpoint or args.resume_only_model else Path(checkpoint)


def require_trainable(args: Any) -> None:
    """Check what the model's own files decided, after swift read them and before it loads the weights.

    Raises:
        ConflictError: not a causal language model, or a template with a loss of its own.
    """
    from swift.template import Template
    from swift.utils import is_master

    _refuse_task(args)
    template_cls = args.template_meta.template_cls
    if template_cls.compute_sft_loss is not Template.compute_sft_loss:
        raise ConflictError(
            f"loss_type={args.loss_type} with template={args.template}, which computes a loss of its own that is not "
            "next-token cross-entropy. Remove loss_type."
        )
    if is_master():
        warn_if_untested(FRAMEWORK)


def _parse(loss_type: str, flag: Any, environment: str | None) -> LossConfig:
    config = LossConfig.parse(loss_type, flag, where="loss_type")
    if environment is None:
        return config
    try:
        from_environment = LossConfig.parse(loss_type, environment, where="loss_type")
    except OptionError as error:
        raise OptionError(f"environment variable {ENV_LOSS_CONFIG}: {error}") from None
    if flag is not None and config.record() != from_environment.record():
        raise ConflictError(
            f"--loss_config {config.record()['loss_config']} and the environment variable {ENV_LOSS_CONFIG} "
            f"{from_environment.record()['loss_config']} differ; unset the variable, or remove the flag."
        )
    return from_environment


def _refuse_other_commands(args: Any, loss_type: Any, flag: Any) -> bool:
    """Return True for a command whose `loss_type` means something else, after refusing ours there."""
    names = loss_type if isinstance(loss_type, list) else [loss_type]
    rlhf_type = getattr(args, "rlhf_type", None)  # absent outside `swift rlhf` and Megatron
    is_megatron = any(cls.__name__ == "MegatronArguments" for cls in type(args).__mro__)
    if rlhf_type is None and not is_megatron:
        return False
    ours = [name for name in names if name in OBJECTIVES and not (rlhf_type and name in _PREFERENCE_LOSSES)]
    if ours or flag is not None:
        setting = f"loss_type={ours[0]}" if ours else f"loss_config={flag}"
        if is_megatron:
            raise ConflictError(
                f"{setting} with Megatron, which computes the loss elsewhere and would ignore it. "
                "Use `swift sft` or `swift pt`, or remove it."
            )
        raise ConflictError(
            f"{setting} with rlhf_type={rlhf_type}: there loss_type chooses a preference or policy loss, and the "
            "objectives of dft-plugin are token losses. Use `swift sft` or `swift pt`, or remove it."
        )
    return True


def _refuse_unknown(args: Any, loss_type: Any, flag: Any) -> None:
    from swift.loss import loss_map

    # None: swift has not read the model's files yet, which decide it where the user does not.
    is_causal = getattr(args, "task_type", None) in (None, "causal_lm")
    if loss_type is not None and loss_type not in loss_map and is_causal:
        swift_names = [name for name in loss_map if name not in OBJECTIVES]
        raise UnknownObjectiveError(
            f"loss_type={loss_type!r} is neither an objective of dft-plugin ({', '.join(OBJECTIVES)}) nor a loss of "
            f"ms-swift ({', '.join(swift_names)}). Correct --loss_type, or register it with --external_plugins."
        )
    if loss_type is not None and flag is not None:
        raise ConfigError(
            f"loss_config={flag!r} with loss_type={loss_type}, a loss of ms-swift's that takes none; remove it."
        )
    require_loss_type(loss_type, flag)


def _refuse_conflicts(args: Any) -> None:
    loss_type = args.loss_type
    if args.enable_dft_loss:
        raise ConflictError(
            f"loss_type={loss_type} and --enable_dft_loss true name two losses; keep one. The objective of ms-swift's "
            "own switch is `--loss_type dft`."
        )
    if args.label_smoothing_factor:
        raise ConflictError(
            f"loss_type={loss_type} with label_smoothing_factor={args.label_smoothing_factor}: smoothing is not part "
            "of any objective and would be ignored. Set --label_smoothing_factor 0."
        )
    if args.use_liger_kernel:
        raise ConflictError(
            f"loss_type={loss_type} with --use_liger_kernel true: its fused cross-entropy replaces the loss. "
            "Set --use_liger_kernel false."
        )
    if args.tuner_backend == "unsloth":
        raise ConflictError(
            f"loss_type={loss_type} with --tuner_backend unsloth: its own forward hides the logits. "
            "Set --tuner_backend peft."
        )
    _refuse_task(args)


def refuse_split_sequences(config: LossConfig, sequence_parallel_size: int) -> None:
    """Check that sequences stay whole where the objective weighs whole ones.

    Raises:
        ConflictError: they are split over ranks.
    """
    needs_sequences = bool(config.training_objective().needs & {"segments", "sequence_nll", "ref_logits"})
    if sequence_parallel_size > 1 and (needs_sequences or config.shared.reduction == "sample_mean"):
        raise ConflictError(
            f"loss_type={config.objective.name} with sequence_parallel_size={sequence_parallel_size}: it needs whole "
            "sequences, which are split over ranks there. Set --sequence_parallel_size 1."
        )


def _refuse_task(args: Any) -> None:
    # Not among the training arguments; None before swift has read the model's files.
    task_type = getattr(args, "task_type", None)
    if task_type not in (None, "causal_lm"):
        raise ConflictError(
            f"loss_type={args.loss_type} with task_type={task_type}, which has no token loss; causal_lm is accepted. "
            "Remove loss_type, or set --task_type causal_lm."
        )
