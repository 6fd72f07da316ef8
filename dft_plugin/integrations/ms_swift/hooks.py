"""ms-swift: `--loss_type` and `--loss_config` of plain `swift sft` and `swift pt`.

Most of this goes through swift's public tables, `loss_map` and `callbacks_map`. `dft_plugin.autoload`
calls `on_import` for each of the modules below in every process, right after it ran:

- `loss.mapping`                    every name of `OBJECTIVES` becomes a `--loss_type`;
- `callbacks.mapping`               the monitor: banner, record, proof;
- `arguments.sft_args`              the flag `--loss_config`;
- `arguments.base_args.model_args`  settings are refused before a model is looked at;
- `pipelines.train.sft`             samples carry what a routed or sequence-level objective must know of them;
- `trainers.trainer_factory`        what the model's own files decide is refused before it is loaded, and the
                                    options reach the trainer.

Where autoload is off, `plugins/ms_swift_dft.py` calls `register` while swift imports its external plugins,
which is after the flags were parsed: options then come from the environment variable DFT_LOSS_CONFIG.
Without a `--loss_type` of ours every one of them does what it did, but that a checkpoint of ours is not resumed with
its optimiser.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from dft_plugin.core.objectives import OBJECTIVES
from dft_plugin.errors import IntegrationError
from dft_plugin.frameworks import Probe
from dft_plugin.integrations.ms_swift.probes import probe_features
from dft_plugin.integrations.ms_swift.settings import (
    CALLBACK,
    FRAMEWORK,
    FRAMEWORK_FLAGS,
    hand_on,
    requested_loss,
    require_trainable,
    resumed_checkpoint,
)
from dft_plugin.patching import Patches, probe_modules, require_parameters
from dft_plugin.run_record import refuse_plain_resume

_patches = Patches(FRAMEWORK)
_failures: dict[str, Exception] = {}
_registered: list[tuple[dict[str, Any], str]] = []
_plugin_files: set[Path] = set()


def on_import(module: ModuleType) -> None:
    """Extend one freshly imported module of ms-swift.

    A failure leaves that module as it was, and every later run that sets `loss_type` is refused with it.
    """
    try:
        _EXTENSIONS[module.__name__](module)
    except Exception as error:
        _failures[module.__name__] = error
        raise


def register(plugin_file: str) -> None:
    """Extend the modules of a swift that runs already; called by the file given to `--external_plugins`.

    Args:
        plugin_file: That file. Its path is kept out of `args.json`: inference needs no loss, and a
            checkpoint must load where the file is gone.

    Raises:
        IntegrationError: ms-swift is not as we know it.
    """
    _plugin_files.add(Path(plugin_file).resolve())
    for name in _EXTENSIONS:
        on_import(importlib.import_module(name))


def revert() -> None:
    """Take every replacement and every registered name back."""
    _patches.revert()
    while _registered:
        table, name = _registered.pop()
        table.pop(name, None)
    _failures.clear()


def require_injected() -> None:
    """Check that swift could be extended and has what we use.

    Raises:
        IntegrationError: the run would train something else.
    """
    failed = [f"{result.name} ({result.detail})" for result in probe() if not result.passed]
    if failed:
        raise IntegrationError(
            f"loss_type is set, but this ms-swift is not as dft-plugin knows it: {'; '.join(failed)}. "
            "Nothing was trained. Install a tested ms-swift (see `dft doctor`), or remove loss_type."
        )


def probe() -> list[Probe]:
    """Import every module we extend, say whether it could be, and look for each feature; imports ms-swift."""
    return [*probe_modules(_EXTENSIONS, _failures), *probe_features()]


def build_loss(args: Any, trainer: Any) -> Any:
    """Build the loss; `loss_map` holds this under each of our names, and swift calls it."""
    from dft_plugin.integrations.ms_swift.loss import DftLoss

    return DftLoss(args, trainer)


def _build_monitor(args: Any, trainer: Any) -> Any:
    return trainer.dft_loss.monitor


def _register(table: dict[str, Any], name: str, entry: Any) -> None:
    if name not in table:  # swift's own names and those of other plugins stay theirs
        table[name] = entry
        _registered.append((table, name))


def _extend_loss_map(module: ModuleType) -> None:
    for name in OBJECTIVES:
        _register(module.loss_map, name, build_loss)


def _extend_callbacks_map(module: ModuleType) -> None:
    _register(module.callbacks_map, CALLBACK, _build_monitor)


def _extend_sft_args(module: ModuleType) -> None:
    package = sys.modules.get("swift.arguments")
    if hasattr(package, "SftArguments"):
        return  # others hold the class already: no flag, options come from the environment

    def make(original: type) -> type:
        require_parameters(original, ("loss_type", *FRAMEWORK_FLAGS), label="ms-swift: SftArguments")

        @dataclasses.dataclass
        class SftArguments(original):
            __doc__ = original.__doc__

            loss_config: dict | str | None = dataclasses.field(  # type: ignore[type-arg]
                default=None,
                metadata={"help": "Options of dft-plugin's `loss_type`, as JSON. See `dft objectives`."},
            )

        SftArguments.__module__ = original.__module__
        SftArguments.__qualname__ = original.__qualname__
        return SftArguments

    _patches.replace(module, "SftArguments", make)


def _extend_model_args(module: ModuleType) -> None:
    def make(original: Callable[[Any], None]) -> Callable[[Any], None]:
        @functools.wraps(original)
        def __post_init__(self: Any) -> None:  # noqa: N807
            # The first step after external plugins were imported, before the model's files are looked at.
            _forget_plugin_file(self)
            config = requested_loss(self)
            if config is not None:
                _refuse_foreign(config.objective.name)
                require_injected()
            elif (checkpoint := resumed_checkpoint(self)) is not None:
                refuse_plain_resume(checkpoint)
            original(self)

        return __post_init__

    _patches.replace(module.ModelArguments, "__post_init__", make)


def _extend_trainer_factory(module: ModuleType) -> None:
    def make(original: Callable[[Any], Any]) -> Any:
        @functools.wraps(original)
        def get_training_args(args: Any) -> Any:
            config = requested_loss(args)
            if config is not None:
                require_trainable(args)
            training_args = original(args)
            if config is not None:
                hand_on(config, training_args)
            return training_args

        return staticmethod(get_training_args)

    _patches.replace(module.TrainerFactory, "get_training_args", make, accepts=("args",))


def _extend_sft_pipeline(module: ModuleType) -> None:
    from dft_plugin.integrations.ms_swift.data import extend_sft

    extend_sft(module, _patches)


def _refuse_foreign(loss_type: str) -> None:
    """Refuse a name of ours under which another plugin registered its loss."""
    from swift.loss import loss_map

    if loss_map.get(loss_type) is not build_loss:
        owner = getattr(loss_map.get(loss_type), "__module__", "nothing")
        raise IntegrationError(
            f"loss_type={loss_type} is registered in ms-swift by {owner}, not by dft-plugin. "
            "Remove the other plugin or give its loss another name."
        )


def _forget_plugin_file(args: Any) -> None:
    paths = getattr(args, "external_plugins", None) or []  # absent on model arguments made alone
    kept = [path for path in paths if Path(path).expanduser().resolve() not in _plugin_files]
    if len(kept) < len(paths):
        args.external_plugins = kept


_EXTENSIONS: dict[str, Callable[[ModuleType], None]] = {
    "swift.loss.mapping": _extend_loss_map,
    "swift.callbacks.mapping": _extend_callbacks_map,
    "swift.arguments.sft_args": _extend_sft_args,
    "swift.arguments.base_args.model_args": _extend_model_args,
    "swift.pipelines.train.sft": _extend_sft_pipeline,
    "swift.trainers.trainer_factory": _extend_trainer_factory,
}
