"""Differences between the settings a folder was made with and those of now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def compare_settings(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return each change as `temperature 0.0 -> 0.7`, nested names joined by dots."""
    differences = []
    for name in [*before, *(name for name in now if name not in before)]:
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            differences += compare_settings(old, new, f"{prefix}{name}.")
        elif old != new or (name in before) != (name in now):
            differences.append(f"{prefix}{name} {_shown(before, name)} -> {_shown(now, name)}")
    return differences


def _shown(settings: Mapping[str, Any], name: str) -> str:
    if name not in settings:
        return "(absent)"
    text = json.dumps(settings[name]) if not isinstance(settings[name], str) else settings[name]
    return text if len(text) <= 80 else text[:77] + "..."
