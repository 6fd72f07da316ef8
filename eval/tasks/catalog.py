"""Every benchmark by the name a person writes."""

from __future__ import annotations

from collections.abc import Mapping

from dft_eval.tasks.base import Task
from dft_eval.tasks.humaneval import HumanEval

TASKS: Mapping[str, type[Task]] = {kind.name: kind for kind in (HumanEval,)}
