"""Dynamic Fine-Tuning (DFT, arXiv 2508.05629) and its family as a loss plugin.

Importing this package imports neither torch nor a training framework: the public names below are
resolved on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_EXPORTS = {
    "OBJECTIVES": "dft_plugin.core.objectives",
    "Objective": "dft_plugin.core.objectives",
    "get_objective": "dft_plugin.core.objectives",
    "LossOutput": "dft_plugin.core.reduction",
    "TokenContext": "dft_plugin.core.context",
    "linear_loss": "dft_plugin.core.linear_loss",
    "logits_loss": "dft_plugin.core.logits_loss",
}

if TYPE_CHECKING:
    from dft_plugin.core.context import TokenContext
    from dft_plugin.core.linear_loss import linear_loss
    from dft_plugin.core.logits_loss import logits_loss
    from dft_plugin.core.objectives import OBJECTIVES, Objective, get_objective
    from dft_plugin.core.reduction import LossOutput

__all__ = [
    "OBJECTIVES",
    "LossOutput",
    "Objective",
    "TokenContext",
    "__version__",
    "get_objective",
    "linear_loss",
    "logits_loss",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {sorted(_EXPORTS)}")
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
