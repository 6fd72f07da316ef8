"""The architectures a sweep tries: what transformers can build as a causal or image-text model, and who names it."""

from __future__ import annotations

import importlib.util
import re
from typing import NamedTuple

FRAMEWORK = "ms-swift" if importlib.util.find_spec("swift") is not None else "LLaMA-Factory"


class Architecture(NamedTuple):
    """One row of the table.

    Attributes:
        model_type: transformers' name of the architecture.
        kind: "text" or "image-text".
        is_named: Whether this environment's framework names it in its templates or models.
    """

    model_type: str
    kind: str
    is_named: bool


def architectures() -> list[Architecture]:
    """Every architecture of transformers' two mappings, those that the framework names first."""
    from transformers.models.auto import modeling_auto as auto

    is_named = _names()
    kinds = dict.fromkeys(auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, "image-text")
    kinds |= {n: "text" for n in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if n not in kinds}
    found = [Architecture(name, kind, is_named(name)) for name, kind in kinds.items()]
    return sorted(found, key=lambda row: (not row.is_named, row.kind != "text", row.model_type))


def _names():
    """Predicate: whether the framework's registries name a model type."""
    if FRAMEWORK == "ms-swift":
        from swift.model import MODEL_MAPPING
        from transformers.models.auto import modeling_auto as auto

        known = {name for meta in MODEL_MAPPING.values() for name in meta.architectures or []}
        tables = (auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)

        def classes(model_type: str) -> set[str]:
            entries = [table[model_type] for table in tables if model_type in table]
            return {name for entry in entries for name in ([entry] if isinstance(entry, str) else entry)}

        return lambda model_type: bool(classes(model_type) & known)
    from llamafactory.data.template import TEMPLATES
    from llamafactory.extras.constants import SUPPORTED_MODELS

    words = {_plain(str(name)) for name in (*SUPPORTED_MODELS, *TEMPLATES)}
    return lambda model_type: any(_plain(model_type) in word for word in words)


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())
