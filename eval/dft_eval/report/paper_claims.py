"""The paper's differences (arXiv 2508.05629) beside the measured ones: reproduced, not reproduced, or untestable."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from dft_eval.report.comparison import Compared, Comparison
from dft_eval.report.document import Cell, Section, Table, Tone
from dft_eval.report.paper_results import NOT_STATED, PaperResult, paper_results
from dft_eval.report.wording import points, points_interval

ClaimVerdict = Literal["reproduced", "not reproduced", "untestable"]

_TONES: dict[ClaimVerdict, Tone] = {"reproduced": "good", "not reproduced": "bad", "untestable": "open"}
_PAIRS = (("dft", "sft"), ("dft", "base"), ("sft", "base"))
_NOTE = (
    "Reproduced: a difference of the paper's sign is decided here. Not reproduced: one of the other sign is, "
    "or nothing is decided and the interval leaves the paper's difference out. Else the problems and seeds here cannot "
    "tell. Arms go by their names base, sft and dft; that data and settings were the paper's is not checked."
)


class Outcome(NamedTuple):
    """An answer of the runs to a claim.

    Attributes:
        verdict: Of three.
        reason: Why.
    """

    verdict: ClaimVerdict
    reason: str


@dataclass(frozen=True)
class Claim:
    """One difference the paper reports, or a benchmark of its that no run here can speak about.

    Attributes:
        task: The benchmark.
        source: Model and table; the paper's models, where none is measured.
        arm: `dft` or `sft`; empty where no model of the paper is measured.
        against: `sft` or `base`; empty likewise.
        points: The paper's difference in points; None likewise.
        measured: The difference here; None where there is none.
        outcome: What that says.
    """

    task: str
    source: str
    arm: str
    against: str
    points: float | None
    measured: Compared | None
    outcome: Outcome


def results_here(comparison: Comparison, task: str) -> list[PaperResult]:
    """The paper's figures for the models that a benchmark's runs name as it does, and for one it does not name."""
    named = [
        f"{run.model} {run.settings.get('model', '')}"
        for (name, _), scores in comparison.grid.items()
        if name == task
        for run in scores.runs.values()
    ]
    return [
        result
        for result in paper_results(task)
        if result.model == NOT_STATED or any(_is_named(result.model, text) for text in named)
    ]


def find_claims(comparison: Comparison) -> list[Claim]:
    """Every claim about the benchmarks and models measured; a benchmark without such a model once."""
    claims = []
    for task in comparison.tasks:
        figures: dict[tuple[str, str], dict[str, float]] = {}
        for result in results_here(comparison, task):
            if not result.column:
                figures.setdefault((result.model, result.source), {})[result.arm] = result.percent
        for (model, source), percents in figures.items():
            claims += [
                _claim(comparison, task, f"{model}, {source}", arm, against, percents[arm] - percents[against])
                for arm, against in _PAIRS
                if {arm, against} <= {*comparison.arms}
            ]
        if not figures and (models := dict.fromkeys(result.model for result in paper_results(task))):
            outcome = Outcome("untestable", "no model of the paper is measured here")
            claims.append(Claim(task, f"of {', '.join(models)}", "", "", None, None, outcome))
    return claims


def claim_section(claims: list[Claim]) -> Section:
    """All claims in one table, those of a benchmark and model together."""
    rows: list[tuple[Cell, ...]] = []
    for (task, source), group in itertools.groupby(claims, key=lambda claim: (claim.task, claim.source)):
        each = list(group)
        if each[0].points is None:
            rows.append((Cell(task, source), Cell("-"), Cell("-"), _verdict_cell(each[0])))
            continue
        rows.append((Cell(task, source), Cell(""), Cell(""), Cell("")))
        for claim in each:
            pair = Cell(f"{claim.arm} - {claim.against}", is_part=True)
            rows.append((pair, Cell(f"{claim.points:+.1f}"), _measured_cell(claim.measured), _verdict_cell(claim)))
    title = "The paper's differences in points, and those measured here"
    table = Table(("Difference", "paper", "here", "verdict"), tuple(rows), _NOTE, title)
    return Section("The paper's claims", tables=(table,))


def _verdict_cell(claim: Claim) -> Cell:
    return Cell(claim.outcome.verdict, claim.outcome.reason, _TONES[claim.outcome.verdict])


def judge_claim(paper_points: float, measured: Compared) -> Outcome:
    """Answer the paper's difference by the measured one.

    Args:
        paper_points: The paper's difference in points.
        measured: The difference here, a share.
    """
    estimate = measured.difference.estimate
    if measured.verdict != "no decision":
        if paper_points * estimate.value > 0:
            return Outcome("reproduced", "the same sign, decided")
        return Outcome("not reproduced", "decided, and the paper has the other sign or none")
    if estimate.low is None or estimate.high is None:
        return Outcome("untestable", "no interval")
    if not 100 * estimate.low <= paper_points <= 100 * estimate.high:
        return Outcome("not reproduced", "undecided, and the paper's difference lies outside the interval")
    return Outcome("untestable", "undecided, and the paper's difference is possible")


def _claim(comparison: Comparison, task: str, source: str, arm: str, against: str, paper_points: float) -> Claim:
    measured = comparison.compared(task, arm, against)
    if source.startswith(NOT_STATED):
        outcome = Outcome("untestable", "the paper names neither model nor metric")
    elif measured is None:
        outcome = Outcome("untestable", "not compared here")
    elif not all(comparison.grid[task, name].is_complete for name in (arm, against)):
        outcome = Outcome("untestable", "a subset of the benchmark")
    else:
        outcome = judge_claim(paper_points, measured)
    return Claim(task, source, arm, against, paper_points, measured, outcome)


def _measured_cell(measured: Compared | None) -> Cell:
    if measured is None:
        return Cell("-")
    estimate = measured.difference.estimate
    return Cell(points(estimate.value), f"{points_interval(estimate)}, {measured.verdict}")


def _is_named(model: str, text: str) -> bool:
    return re.search(rf"(?<![\w.-]){re.escape(model)}(?![\w.]|-)", text.replace("_", " "), re.IGNORECASE) is not None
