"""Agreement of two frameworks' trainings: the same tokens, the same losses."""

from __future__ import annotations

import json
import re
from pathlib import Path

from dft_plugin.demo.arms import ArmResult
from dft_plugin.errors import DftError


def relative_differences(first: ArmResult, second: ArmResult) -> list[float]:
    """Relative difference of the losses of two runs, a step each.

    Raises:
        DftError: the runs differ in length.
    """
    pairs = list(zip(first.curve("loss"), second.curve("loss"), strict=False))
    if len(first.history) != len(second.history):
        raise DftError(f"{first.arm.name} has {len(first.history)} steps, {second.arm.name} {len(second.history)}.")
    return [abs(a - b) / max(abs(a), abs(b), 1e-12) for a, b in pairs]


def first_example_agrees(first: Path, second: Path) -> bool | None:
    """Compare the token ids and labels that both frameworks logged for the first example; None if not logged.

    Args:
        first: Log of LLaMA-Factory.
        second: Log of ms-swift.
    """
    one, other = (path.read_text(encoding="utf-8", errors="replace") for path in (first, second))
    found = [
        (re.search(pattern, one, re.MULTILINE), re.search(other_pattern, other))
        for pattern, other_pattern in (
            (r"^input_ids:\n(\[.*\])", r"\[INPUT_IDS\] (\[.*\])"),
            (r"^label_ids:\n(\[.*\])", r"\[LABELS_IDS\] (\[.*\])"),
        )
    ]
    if any(match is None for pair in found for match in pair):
        return None
    return all(a is not None and b is not None and json.loads(a[1]) == json.loads(b[1]) for a, b in found)
