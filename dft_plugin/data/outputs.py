"""Files of a finished build: the data, LLaMA-Factory's register of it, the list of noted rows, the manifest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dft_eval.records.changes import compare_settings
from dft_eval.records.files import write_lines
from dft_eval.rollout.training_files import conversations_entry
from dft_plugin.data.lengths import measure_lengths
from dft_plugin.data.recipe import Recipe
from dft_plugin.data.selection import selected_lines
from dft_plugin.data.sources import sha256_of
from dft_plugin.data.work import NOTES, WorkFolder
from dft_plugin.errors import ConflictError
from dft_plugin.run_record import write_json

MANIFEST, NOTED_ROWS, REGISTER = "manifest.json", "noted_rows.jsonl", "dataset_info.json"
SCHEMA = 1


def read_finished(out: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """The manifest of a finished build of the same settings; None where nothing is there yet.

    Raises:
        ConflictError: the folder holds something else, or a file of the build was changed.
    """
    path = out / MANIFEST
    if not path.exists():
        foreign = [each.name for each in out.iterdir() if each.name != ".build"] if out.is_dir() else []
        if foreign and not (out / ".build").is_dir():
            raise ConflictError(
                f"{out} holds {', '.join(sorted(foreign)[:5])}; a build wants a folder of its own: use a new --out."
            )
        return None
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if differing := compare_settings({key: manifest.get(key) for key in identity}, identity):
        raise ConflictError(f"{out} holds a dataset of other settings: {'; '.join(differing)}. Use a new --out.")
    for name, output in manifest["outputs"].items():
        if not (out / name).is_file() or sha256_of(out / name) != output["sha256"]:
            raise ConflictError(f"{out / name} is not as the build wrote it; remove {out} and build again.")
    return manifest


def finish(
    out: Path,
    work: WorkFolder,
    identity: Mapping[str, Any],
    report: Mapping[str, Any],
    recipe: Recipe,
) -> dict[str, Any]:
    """Write all files; the manifest comes last, and what was left half done is written anew.

    Returns:
        The manifest.
    """
    name = f"{recipe.name}.jsonl"
    written = write_lines(out / name, selected_lines(recipe.select, work))
    outputs: dict[str, dict[str, Any]] = {name: {"rows": written.num_lines, "sha256": written.sha256}}
    _copy(work.path / NOTES, out / NOTED_ROWS)
    outputs[NOTED_ROWS] = {"rows": _count_lines(out / NOTED_ROWS), "sha256": sha256_of(out / NOTED_ROWS)}
    if identity["format"] == "llamafactory":
        images = {"images": "images"} if recipe.images else {}
        write_json(out / REGISTER, {recipe.name: conversations_entry(name, images)})
        outputs[REGISTER] = {"sha256": sha256_of(out / REGISTER)}
    rows = {**report, "written": written.num_lines}
    manifest = {"schema": SCHEMA, **identity, "rows": rows, "outputs": outputs}
    write_json(out / MANIFEST, manifest)
    return manifest


def add_lengths(out: Path, manifest: dict[str, Any], tokenizer: str | None) -> dict[str, Any]:
    """Add the lengths in tokens to the manifest of a finished build, where a tokenizer is given."""
    if tokenizer is None:
        return manifest
    manifest = {**manifest, "lengths": measure_lengths(out / f"{manifest['recipe']['name']}.jsonl", tokenizer)}
    write_json(out / MANIFEST, manifest)
    return manifest


def _copy(source: Path, target: Path) -> None:
    temporary = target.with_name(target.name + ".tmp")
    shutil.copyfile(source, temporary)
    temporary.replace(target)


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)
