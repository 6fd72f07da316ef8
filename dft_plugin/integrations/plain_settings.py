"""Settings of a plain transformers or TRL trainer that contradict the loss; each would silently train another."""

from __future__ import annotations

from typing import Any

from dft_plugin.config import LossConfig
from dft_plugin.errors import ConflictError
from dft_plugin.training.sample_tags import needs_tags


def refuse_sample_needs(config: LossConfig) -> None:
    """Refuse a loss that must know more of a token than its id and its batch.

    Raises:
        ConflictError: its samples would need tags, which only LLaMA-Factory's and ms-swift's data get.
    """
    if needs_tags(config):
        raise ConflictError(
            f"loss_type={config.objective.name} with these options reads what the data of LLaMA-Factory and ms-swift "
            "carry to the loss (route, sample_weight, reduction: sample_mean, whole sequences, ref_logps); a plain "
            "transformers or TRL trainer has no such data. Train there, or remove the option."
        )


def refuse_conflicts(trainer: Any, config: LossConfig) -> None:
    """Refuse what a constructed trainer has beside `config`.

    Raises:
        ConflictError: another loss, label smoothing, Liger, several GPUs in one process, or a model whose labels are
            not its next tokens.
    """
    args, name = trainer.args, config.objective.name
    own = getattr(args, "loss_type", "nll")  # TRL's alone
    if own != "nll":
        raise ConflictError(
            f"loss_type={name} of dft-plugin and loss_type={own!r} of {type(args).__name__} name two losses. "
            'Set loss_type="nll" there; the objective is chosen in with_loss.'
        )
    if trainer.compute_loss_func is not None:
        raise ConflictError(f"loss_type={name} with a compute_loss_func: both are the loss. Remove compute_loss_func.")
    if args.label_smoothing_factor:
        raise ConflictError(
            f"loss_type={name} with label_smoothing_factor={args.label_smoothing_factor}: smoothing is not part of any "
            "objective and would be ignored. Set label_smoothing_factor=0."
        )
    if args.use_liger_kernel:
        raise ConflictError(
            f"loss_type={name} with use_liger_kernel=True: its fused cross-entropy replaces the loss. "
            "Set use_liger_kernel=False."
        )
    if args.n_gpu > 1:
        raise ConflictError(
            f"loss_type={name} with {args.n_gpu} GPUs in one process (DataParallel), which splits the batch behind the "
            "loss. Start with torchrun or accelerate launch, or set CUDA_VISIBLE_DEVICES to one."
        )
    if config.shared.full_weight_tokens and trainer.processing_class is None:
        raise ConflictError("full_weight_tokens without a tokenizer. Give the trainer processing_class=tokenizer.")
    _require_causal(trainer.model)


def _require_causal(model: Any) -> None:
    from transformers.loss.loss_utils import ForCausalLMLoss

    base = model.get_base_model() if hasattr(model, "get_base_model") else model  # PEFT's wrapper
    is_causal = getattr(base, "loss_function", None) is ForCausalLMLoss
    if not is_causal or base.config.is_encoder_decoder:
        raise ConflictError(
            f"{type(base).__name__} is not a causal language model with transformers' own loss (an encoder-decoder, a "
            "masked or classifying model, or a loss of its own): its labels may not be the next tokens. Train it "
            "without dft-plugin."
        )


def refuse_shifted_labels(inputs: dict[str, Any]) -> None:
    """Refuse labels that a collator shifted already.

    Raises:
        ConflictError: the batch has `shift_labels`.
    """
    if "shift_labels" in inputs:
        raise ConflictError(
            "the batch has shift_labels beside or instead of labels; the loss reads labels aligned with input_ids. "
            "Switch sequence or context parallelism off, or use another data collator."
        )
