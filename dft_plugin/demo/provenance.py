"""Provenance of the demo's numbers: versions, commit, data, cost."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import dft_plugin
from dft_plugin.demo.arms import ArmResult
from dft_plugin.demo.data import Recipe, SeedPlan


def describe_provenance(
    plans: Sequence[SeedPlan], trained: Mapping[str, ArmResult], recipe: Recipe, *, wall_s: float
) -> dict[str, str]:
    """Name and value of everything that decides, or dates, the numbers."""
    frameworks = sorted({result.framework_version for result in trained.values()})
    cpu_s = sum(result.cpu_s for result in trained.values())
    packages = ("torch", "transformers", "numpy", "scipy")
    provenance = {
        "dft-plugin": f"{dft_plugin.__version__}, {git_commit()}",
        "Frameworks (training)": ", ".join(frameworks),
        "Scoring": ", ".join(f"{name} {version(name)}" for name in packages),
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "Seeds": ", ".join(str(plan.seed) for plan in plans),
        "Model": "Qwen2 architecture, 4 layers, hidden size 64, 0.2 million parameters, random start",
        "Time": f"{wall_s:.0f} s for this call; {cpu_s:.0f} CPU-s of training in {len(trained)} arms",
        "Recipe": ", ".join(f"{key}={value:g}" for key, value in asdict(recipe).items()),
    }
    for plan in plans:
        for name, digest in plan.data_sha256.items():
            provenance[f"sha256 of {plan.folder}/data/{name}.jsonl"] = digest
    return provenance


def git_commit() -> str:
    """The commit this package was imported from, if that is a checkout of this project."""
    root = Path(dft_plugin.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return "no git checkout"
    try:
        commit = _git(root, "rev-parse", "--short=12", "HEAD")
        is_dirty = bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return "git checkout, commit unreadable"
    return f"commit {commit}{' with local changes' if is_dirty else ''}"


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()
