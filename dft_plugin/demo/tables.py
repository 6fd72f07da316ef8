"""The demo's tables."""

from __future__ import annotations

from collections.abc import Sequence

from dft_eval.report.document import Cell, Table, Tone
from dft_plugin.demo.data import SeedPlan
from dft_plugin.demo.results import COMPARISONS, SeedResults
from dft_plugin.demo.summary import Line, difference_line, percent, points, score_line

NAMES = {
    "base": "Base model",
    "sft": "SFT",
    "dft": "DFT",
    "dft_ms_swift": "DFT trained by ms-swift",
    "facts_sft": "SFT",
    "facts_dft": "DFT",
    "mixed_sft": "SFT on both",
    "mixed_dft": "DFT on both",
    "mixed_route": "Routed: SFT on facts, DFT on additions",
}
TONES: dict[str, Tone] = {"better": "good", "worse": "bad", "no decision": "open"}
_DECODING_NAMES = {"greedy": "greedy", "t1": "temperature 1"}
_NUM_EXAMPLES = 6


def score_table(scored: Sequence[SeedResults], task: str, arms: Sequence[str], *, label: str = "Arm") -> Table:
    """Scores of `arms` on `task`, a row each, under `label`; a skipped arm keeps its row."""
    rows = []
    for arm in arms:
        lines = [score_line(scored, task, arm, decoding) for decoding in _DECODING_NAMES]
        if all(line is None for line in lines):
            rows.append((Cell(NAMES[arm]), *[Cell("skipped")] * 3))
            continue
        sampled = [results.answers[task, arm, "t1"] for results in scored]
        num_truncated = sum(answers.count("truncated") for answers in sampled)
        num_answers = sum(len(answers.answers) for answers in sampled)
        rows.append(
            (Cell(NAMES[arm]), *[_score_cell(line) for line in lines], Cell(percent(num_truncated / num_answers)))
        )
    note = (
        "Right answers. Intervals: 95%; Wilson for one answer a problem, clustered by problem at temperature 1."
        if len(scored) == 1
        else f"Right answers: mean over {len(scored)} seeds, with the lowest and highest."
    )
    columns = (label, "Greedy", "Temperature 1", "Never stopped (t. 1)")
    return Table(columns, tuple(rows), note)


def difference_table(scored: Sequence[SeedResults], wanted: str, arms: Sequence[str]) -> Table:
    """Comparisons among `arms` on the task `wanted` with their verdicts."""
    rows = []
    for index, (task, first, second, decoding) in enumerate(COMPARISONS):
        if task != wanted or not {first, second} <= set(arms):
            continue
        line = difference_line(scored, index)
        cells = [Cell(f"{NAMES[second]} against {NAMES[first]}", _DECODING_NAMES[decoding])]
        cells += [Cell(points(line.value)), Cell(line.spread), Cell(line.verdict, "", TONES[line.verdict])]
        rows.append(tuple(cells))
    note = (
        "Differences in points on the same problems, paired by problem (95%). A verdict needs an interval without 0 "
        f"and a sign-flip p below 0.05 after Holm's correction for all {len(COMPARISONS)} comparisons of this page."
        if len(scored) == 1
        else "Differences in points; 95% interval over seeds (Student t). A verdict needs an interval without 0, and "
        "every seed alone deciding the same."
    )
    return Table(("Comparison", "Difference", "95% interval", "Verdict"), tuple(rows), note)


def _score_cell(line: Line | None) -> Cell:
    return Cell("skipped") if line is None else Cell(percent(line.value), line.spread)


def example_table(plan: SeedPlan, first: SeedResults) -> Table:
    """Table of the answers of SFT and DFT to the first problems."""
    rows = []
    asked = [("addition", problem, ("sft", "dft")) for problem in plan.additions[:_NUM_EXAMPLES]]
    asked += [("facts", problem, ("facts_sft", "facts_dft")) for problem in plan.facts[: _NUM_EXAMPLES // 2]]
    for task, problem, arms in asked:
        cells = [Cell(problem.prompt), Cell(problem.answer)]
        for arm in arms:
            answers = first.answers[task, arm, "t1"].answers
            answer = next(answer for answer in answers if answer.sample_id == problem.sample_id)
            tone: Tone = "" if answer.passed else "bad"
            cells.append(Cell(answer.response or "(nothing)", answer.status, tone))
        rows.append(tuple(cells))
    note = (
        f"The first {_NUM_EXAMPLES} held-out additions and the first {_NUM_EXAMPLES // 2} facts, first sample; "
        "not selected."
    )
    return Table(("Question", "Right answer", "SFT wrote", "DFT wrote"), tuple(rows), note)
