"""Builds in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dft_plugin.data.build import BuildSettings, build
from dft_plugin.data.recipe import load_recipe
from dft_plugin.data.selection import with_selection


def build_from(
    recipe: str, out: Path, *files: Path, rows: int | None = None, seed: int | None = None, **settings: Any
) -> dict[str, Any]:
    """The manifest of a build of local files."""
    chosen = with_selection(load_recipe(recipe), rows, seed)
    return build(BuildSettings(chosen, settings.pop("format", "ms_swift"), out, files, **settings))
