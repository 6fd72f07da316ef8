"""WeMath's scores (Qiao et al. 2024): a problem is several questions, one a step, and one that needs all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class WemathProblem:
    """Sample ids of one problem.

    Attributes:
        name: Number of steps and ID.
        steps: The questions about one step each, two or three.
        whole: The question that needs all steps.
    """

    name: str
    steps: tuple[str, ...]
    whole: str


def group_rows(rows: Sequence[Mapping[str, str]]) -> list[WemathProblem]:
    """The problems of the file by their `ID` and `key` (`2steps_1` to `3steps_multi`).

    Raises:
        ValueError: a problem lacks a question or has one twice.
    """
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        steps, _, part = row["key"].partition("steps_")
        parts = found.setdefault(f"{steps}steps {row['ID']}", {})
        if part in parts:
            raise ValueError(f"WeMath problem {row['ID']} has {row['key']} twice")
        parts[part] = row["index"]
    problems = []
    for name, parts in found.items():
        wanted = [str(step) for step in range(1, int(name[0]) + 1)]
        if set(parts) != {*wanted, "multi"}:
            raise ValueError(f"WeMath problem {name} has the questions {sorted(parts)}")
        problems.append(WemathProblem(name, tuple(parts[part] for part in wanted), parts["multi"]))
    return problems


def mark(problem: WemathProblem, is_right: Mapping[str, bool], *, strict: bool) -> float:
    """1 for complete mastery, 0.5 for inadequate generalisation, else 0; their mean is WeMath's score.

    With the counts of all problems that is `(n - 0.5 IG - RM - IK) / n`: in strict counting the whole without each
    step is rote memorisation (RM), in loose counting the whole without any step.

    Args:
        problem: Which.
        is_right: By sample id. A question without a verdict makes the mark 0: what is not shown is not mastered.
        strict: Which of the two countings.
    """
    if not all(sample_id in is_right for sample_id in (*problem.steps, problem.whole)):
        return 0.0
    steps = [is_right[step] for step in problem.steps]
    if is_right[problem.whole]:
        return float(all(steps) if strict else any(steps))
    return 0.5 if all(steps) else 0.0
