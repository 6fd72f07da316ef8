"""Provenance of a run: package versions, the checkout, hashes."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from dft_eval.records.schema import Sample

_PACKAGES = ("dft-plugin", "torch", "transformers", "tokenizers", "vllm", "openai", "ray", "numpy", "scipy", "pebble")


@cache
def describe_environment() -> dict[str, Any]:
    """Python, the packages that are installed, and commit and dirty flag where this code is a git checkout."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {"versions": versions, "git": _describe_checkout(Path(__file__).resolve())}


def hash_prompts(samples: Iterable[Sample]) -> str:
    """Sha256 over everything a model is asked, in order."""
    digest = hashlib.sha256()
    for sample in samples:
        asked = [sample.sample_id, sample.prompt, sample.stop, sample.max_new_tokens]
        asked += [sample.continuation] if sample.continuation else []
        digest.update(json.dumps(asked, default=dict, ensure_ascii=True).encode() + b"\n")
    return digest.hexdigest()


def _describe_checkout(file: Path) -> dict[str, Any] | None:
    """None where the file belongs to no checkout: an installed package is not the user's repository."""
    try:
        _git(file.parent, "ls-files", "--error-unmatch", file.name)
        commit = _git(file.parent, "rev-parse", "HEAD")
        is_dirty = bool(_git(file.parent, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "is_dirty": is_dirty}


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
