"""Tables that `dft data` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dft_plugin.data.recipe import bundled_names, load_recipe


def describe_recipes() -> list[dict[str, Any]]:
    """One row a recipe of this package."""
    rows = []
    for name in bundled_names():
        recipe = load_recipe(name)
        source = recipe.source
        rows.append(
            {
                "name": name,
                "about": recipe.about,
                "variants": list(recipe.variants),
                "source": source.hub or source.url,
                "revision": source.revision,
                "has_images": bool(recipe.images),
            }
        )
    return rows


def format_recipes(rows: Sequence[Mapping[str, Any]]) -> str:
    """A block of lines for each recipe."""
    lines = []
    for row in rows:
        names = [row["name"], *(f"{row['name']}/{variant}" for variant in row["variants"])]
        revision = row["revision"][:12] if row["revision"] else "no commit known: --revision or --from"
        lines += ["  ".join(names), f"    {row['about']}", f"    {row['source']} ({revision})"]
    return "\n".join(lines)


def format_manifest(manifest: Mapping[str, Any], out: Path, image_dir: Path | None) -> str:
    """Lines that say what was read, left out and written, and what a training configuration needs."""
    name = str(manifest["recipe"]["name"])
    rows = manifest["rows"]
    lines = [
        f"{out / name}.jsonl: {rows['written']:,} rows of {rows['passed']:,} that passed and {rows['read']:,} read"
    ]
    lines += [f"  {reason:<24} {count:>8,}" for reason, count in rows["noted"].items()]
    if rows["noted"]:
        lines.append(f"  each of them is listed in {out / 'noted_rows.jsonl'}")
    for part, lengths in manifest.get("lengths", {}).items():
        if isinstance(lengths, Mapping):
            lines.append(f"  tokens, {part}: " + ", ".join(f"{key} {value:,}" for key, value in lengths.items()))
    is_llamafactory = manifest["format"] == "llamafactory"
    lines.append(f"dataset: {name}, dataset_dir: {out}" if is_llamafactory else f"--dataset {out / name}.jsonl")
    if image_dir is not None:
        lines.append(f"media_dir: {image_dir}" if is_llamafactory else f"ROOT_IMAGE_DIR={image_dir}")
    return "\n".join(lines)
