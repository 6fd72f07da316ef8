"""LLaMA-Factory: `loss_type` and `loss_config` as YAML keys of plain `llamafactory-cli train`.

LLaMA-Factory has no plugin hook, and its launcher starts itself again by file name under torchrun, so
patches made in a wrapper process would be lost. `dft_plugin.autoload` calls `on_import` in every process
for each of the modules below, right after it ran and before anything imported names from it:

- `hparams.finetuning_args`  the dataclass gains our two keys, checked as soon as they are parsed;
- `hparams.parser`           settings that contradict each other are refused before a model is loaded;
- `v1.config.arg_parser`     USE_V1=1 says why it does not know our keys;
- `data.loader`, `data.processor.supervised`  samples carry what a routed or sequence-level objective must know;
- `train.sft.trainer`, `train.pt.trainer`  the trainer computes our loss and logs its statistics;
- `train.trainer_utils`      the model card states the objective.

Without `loss_type` every one of them does what it did, but that a checkpoint of ours is not resumed with its optimiser.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from dft_plugin.config import LossConfig, require_loss_type
from dft_plugin.errors import ConflictError, IntegrationError
from dft_plugin.frameworks import Probe, warn_if_untested
from dft_plugin.integrations.llamafactory.data import (
    PLAN,
    extend_loader,
    extend_processors,
    made_with,
    require_taggable,
)
from dft_plugin.patching import Patches, probe_modules, require_parameters
from dft_plugin.run_record import refuse_plain_resume
from dft_plugin.training.sample_tags import TagPlan

FRAMEWORK = "llamafactory"
STAGES = ("pt", "sft")
_NATIVE_SWITCHES = ("use_dft_loss", "use_asft_loss", "use_eaft_loss")

_patches = Patches(FRAMEWORK)
_failures: dict[str, Exception] = {}


def on_import(module: ModuleType) -> None:
    """Extend one freshly imported module of LLaMA-Factory.

    A failure leaves that module as it was, and every later run that sets `loss_type` is refused with it.
    """
    try:
        _EXTENSIONS[module.__name__](module)
    except Exception as error:
        _failures[module.__name__] = error
        raise


def revert() -> None:
    """Take every replacement back."""
    _patches.revert()
    _failures.clear()


def require_injected() -> None:
    """Check that every module imported so far was extended.

    Raises:
        IntegrationError: one was not; the run would train something else.
    """
    for name, error in _failures.items():
        raise IntegrationError(
            f"loss_type is set, but {name} could not be extended ({error}). Nothing was trained. "
            "Install a tested LLaMA-Factory (see `dft doctor`), or remove loss_type."
        )
    for workflow, trainer in (("sft", "CustomSeq2SeqTrainer"), ("pt", "CustomTrainer")):
        module = sys.modules.get(f"llamafactory.train.{workflow}.workflow")
        if module is not None and not getattr(getattr(module, trainer), "is_dft_trainer", False):
            raise IntegrationError(
                f"loss_type is set, but {module.__name__} holds a {trainer} from before dft-plugin was loaded. "
                "Import torch, or call dft_plugin.autoload.install(), before llamafactory."
            )


def probe() -> list[Probe]:
    """Import every module we extend and say whether it could be; imports LLaMA-Factory, which takes a while."""
    return probe_modules(_EXTENSIONS, _failures)


def _extend_finetuning_args(module: ModuleType) -> None:
    def make(original: type) -> type:
        require_parameters(original, ("stage", *_NATIVE_SWITCHES), label="llamafactory: FinetuningArguments")

        @dataclasses.dataclass
        class FinetuningArguments(original):
            __doc__ = original.__doc__
            dft_loss_config = None  # not a field: it is read from the two below

            loss_type: str | None = dataclasses.field(
                default=None,
                metadata={"help": "Token-weighted objective of dft-plugin; see `dft objectives`."},
            )
            loss_config: dict | str | None = dataclasses.field(  # type: ignore[type-arg]
                default=None, metadata={"help": "Options of `loss_type`: a mapping, or its JSON text."}
            )

            def __post_init__(self) -> None:
                super().__post_init__()
                if require_loss_type(self.loss_type, self.loss_config):
                    self.dft_loss_config = LossConfig.parse(self.loss_type, self.loss_config, where="loss_type")
                    _refuse_own_conflicts(self)
                    require_injected()

        FinetuningArguments.__module__ = original.__module__
        FinetuningArguments.__qualname__ = original.__qualname__
        return FinetuningArguments

    _patches.replace(module, "FinetuningArguments", make)


def _refuse_own_conflicts(finetuning_args: Any) -> None:
    """Contradictions within the fine-tuning arguments."""
    loss_type = finetuning_args.loss_type
    for switch in _NATIVE_SWITCHES:
        if getattr(finetuning_args, switch):
            raise ConflictError(
                f"loss_type={loss_type} and {switch}=true name two losses; keep one. The objective of LLaMA-Factory's "
                f"own {switch} is in `dft objectives` too."
            )
    if finetuning_args.stage not in STAGES:
        raise ConflictError(
            f"loss_type={loss_type} with stage={finetuning_args.stage}, which has no token loss; "
            f"stages {' and '.join(STAGES)} are accepted. Remove loss_type, or change the stage."
        )


def _extend_parser(module: ModuleType) -> None:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def get_train_args(args: Any = None) -> Any:
            parsed = original(args)
            model_args, data_args, training_args, finetuning_args, _ = parsed
            if finetuning_args.dft_loss_config is None:
                _refuse_plain_resume(training_args)
            else:
                require_injected()
                _refuse_conflicts(model_args, training_args, finetuning_args)
                _attach_plan(model_args, data_args, finetuning_args)
                if training_args.should_log:
                    warn_if_untested(FRAMEWORK)
            return parsed

        return get_train_args

    _patches.replace(module, "get_train_args", make, accepts=("args",))


def _refuse_plain_resume(training_args: Any) -> None:
    named = training_args.resume_from_checkpoint  # LLaMA-Factory fills in the last one of an output_dir it goes on in
    if named and training_args.do_train:
        from transformers.trainer_utils import get_last_checkpoint

        checkpoint = named if isinstance(named, str) else get_last_checkpoint(training_args.output_dir)
        if checkpoint is not None:
            refuse_plain_resume(Path(checkpoint))


def _refuse_conflicts(model_args: Any, training_args: Any, finetuning_args: Any) -> None:
    """Contradictions across argument groups; each would train another loss without a word."""
    loss_type = finetuning_args.loss_type
    if training_args.label_smoothing_factor:
        raise ConflictError(
            f"loss_type={loss_type} with label_smoothing_factor={training_args.label_smoothing_factor}: smoothing is "
            "not part of any objective and would be ignored. Set label_smoothing_factor: 0."
        )
    replacing = {
        "enable_liger_kernel": (model_args, "its fused cross-entropy replaces the loss"),
        "use_unsloth": (model_args, "its own forward hides the logits"),
        "use_kt": (model_args, "its trainer computes the loss elsewhere"),
        "use_mca": (finetuning_args, "Megatron computes the loss elsewhere"),
        "use_hyper_parallel": (finetuning_args, "its trainer computes the loss elsewhere"),
    }
    for option, (arguments, reason) in replacing.items():
        if getattr(arguments, option):
            raise ConflictError(f"loss_type={loss_type} with {option}=true: {reason}. Set {option}: false.")


def _attach_plan(model_args: Any, data_args: Any, finetuning_args: Any) -> None:
    """Attach the run's TagPlan to the data arguments."""
    words = made_with(data_args, model_args)
    plan = TagPlan.of(finetuning_args.dft_loss_config, lambda: _load_tokenizer(model_args), words)
    if plan is not None:
        require_taggable(plan, data_args, finetuning_args.stage)
        setattr(data_args, PLAN, plan)


def _load_tokenizer(model_args: Any) -> Any:
    from llamafactory.model import load_tokenizer

    return load_tokenizer(model_args)["tokenizer"]


def _extend_loader(module: ModuleType) -> None:
    extend_loader(module, _patches)


def _extend_processors(module: ModuleType) -> None:
    extend_processors(module, _patches)


def _extend_trainer(module: ModuleType, name: str, stage: str) -> None:
    # Imported here: the configuration must be checkable without loading transformers' trainer.
    from dft_plugin.integrations.hf_trainer import trainer_with_loss

    def make(original: type) -> type:
        def configure(trainer: Any) -> LossConfig | None:
            config: LossConfig | None = trainer.finetuning_args.dft_loss_config
            return config

        def get_logger() -> Any:
            from llamafactory.extras.logging import get_logger

            return get_logger("llamafactory.dft_plugin")  # its handlers hang on its own name

        return trainer_with_loss(original, configure, framework=FRAMEWORK, stage=stage, get_logger=get_logger)

    _patches.replace(module, name, make, accepts=("finetuning_args",))


def _extend_trainer_utils(module: ModuleType) -> None:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def create_modelcard_and_push(trainer: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(trainer, *args, **kwargs)
            monitor = getattr(trainer, "dft_monitor", None)  # the trainers of other stages are not extended
            card = Path(trainer.args.output_dir) / "README.md"
            if monitor is not None and trainer.is_world_process_zero() and card.exists():
                with card.open("a", encoding="utf-8") as file:
                    file.write(monitor.describe())
            return result

        return create_modelcard_and_push

    _patches.replace(module, "create_modelcard_and_push", make, accepts=("trainer",))


def _extend_v1_parser(module: ModuleType) -> None:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def get_args(args: Any = None) -> Any:
            try:
                return original(args)
            except ValueError as error:
                if "loss_type" not in str(error) and "loss_config" not in str(error):
                    raise
                raise ConflictError(
                    "loss_type is unknown under USE_V1=1: that is LLaMA-Factory's new trainer, which has a loss of its "
                    "own and nothing dft-plugin could extend. Unset USE_V1."
                ) from error

        return get_args

    _patches.replace(module, "get_args", make, accepts=("args",))


_EXTENSIONS: dict[str, Callable[[ModuleType], None]] = {
    "llamafactory.hparams.finetuning_args": _extend_finetuning_args,
    "llamafactory.hparams.parser": _extend_parser,
    "llamafactory.v1.config.arg_parser": _extend_v1_parser,
    "llamafactory.data.loader": _extend_loader,
    "llamafactory.data.processor.supervised": _extend_processors,
    "llamafactory.train.trainer_utils": _extend_trainer_utils,
    "llamafactory.train.sft.trainer": functools.partial(_extend_trainer, name="CustomSeq2SeqTrainer", stage="sft"),
    "llamafactory.train.pt.trainer": functools.partial(_extend_trainer, name="CustomTrainer", stage="pt"),
}
