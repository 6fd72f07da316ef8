"""The `torch.backends` entry point: waits for a framework, costs next to nothing, never raises.

PyTorch calls every entry point of that group at the end of `import torch`, in every process and so in
every rank. An exception there would break `import torch` for every program of the environment. This
module therefore imports only the standard library, and installs a finder that looks at module names;
`dft_plugin.integrations` is imported once a framework's own module is.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import logging
import sys
from collections.abc import Sequence
from types import ModuleType

logger = logging.getLogger(__name__)

# Framework module -> our module whose `on_import(module)` extends it.
HOOKS = {
    "llamafactory.hparams.finetuning_args": "dft_plugin.integrations.llamafactory.hooks",
    "llamafactory.hparams.parser": "dft_plugin.integrations.llamafactory.hooks",
    "llamafactory.v1.config.arg_parser": "dft_plugin.integrations.llamafactory.hooks",
    "llamafactory.data.loader": "dft_plugin.integrations.llamafactory.hooks",
    "llamafactory.data.processor.supervised": "dft_plugin.integrations.llamafactory.hooks",
    "llamafactory.train.trainer_utils": "dft_plugin.integrations.llamafactory.hooks",
    "llamafactory.train.sft.trainer": "dft_plugin.integrations.llamafactory.hooks",
    "llamafactory.train.pt.trainer": "dft_plugin.integrations.llamafactory.hooks",
    "swift.loss.mapping": "dft_plugin.integrations.ms_swift.hooks",
    "swift.callbacks.mapping": "dft_plugin.integrations.ms_swift.hooks",
    "swift.arguments.sft_args": "dft_plugin.integrations.ms_swift.hooks",
    "swift.arguments.base_args.model_args": "dft_plugin.integrations.ms_swift.hooks",
    "swift.pipelines.train.sft": "dft_plugin.integrations.ms_swift.hooks",
    "swift.trainers.trainer_factory": "dft_plugin.integrations.ms_swift.hooks",
}


class _ExtendingLoader(importlib.abc.Loader):
    """Runs the module as its own loader would, then hands it to the integration."""

    def __init__(self, loader: importlib.abc.Loader, integration: str) -> None:
        self._loader = loader
        self._integration = integration

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        extend(module, self._integration)


class FrameworkFinder(importlib.abc.MetaPathFinder):
    """Finds the modules of `HOOKS` where they really are, with a loader that extends them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The ordinary spec with our loader around its own; None for every other module."""
        integration = HOOKS.get(fullname)
        if integration is None:
            return None
        for finder in sys.meta_path:
            if finder is self:
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _ExtendingLoader(spec.loader, integration)
                return spec
        return None


def extend(module: ModuleType, integration: str) -> None:
    """Let `integration` extend a freshly imported framework module; a failure leaves the framework as it was."""
    try:
        importlib.import_module(integration).on_import(module)
    except Exception:  # the framework must stay usable without us; the error is reported in full
        logger.exception(
            "dft-plugin could not extend %s; `loss_type` will not be accepted. Run `dft doctor`.",
            module.__name__,
        )


def install() -> None:
    """Wait for the frameworks; called by `import torch`. Idempotent, never raises."""
    if any(isinstance(finder, FrameworkFinder) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, FrameworkFinder())
    for name, integration in HOOKS.items():
        if name in sys.modules:
            extend(sys.modules[name], integration)
