"""The graders of `dft eval grade` as a reward for online training."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from dft_eval.errors import StoreError
from dft_eval.run.grade import Rules, grade, require_grader

Golds = str | Sequence[str]


def rewards(responses: Sequence[str], golds: Sequence[Golds], rules: Rules) -> list[float]:
    """Return 1 for each right response and 0 for each other one; the grading processes stay for the next call.

    Args:
        responses: What the model wrote.
        golds: To each, its reference or several of which any is right.
        rules: As in `dft eval grade`.

    Raises:
        MissingPrerequisite: math-verify is not installed.
        StoreError: a response could not be graded because of this machine; a made-up reward would train the model.
    """
    require_grader(rules, "the reward")

    def grade_one(response: str, gold: Golds) -> float:
        found = grade([gold] if isinstance(gold, str) else gold, response, rules)
        if found.passed is None:
            raise StoreError(f"a response could not be graded: {found.message}")
        return float(found.passed)

    if len(responses) != len(golds):
        raise ValueError(f"{len(responses)} responses, but {len(golds)} references")
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(grade_one, responses, golds))
