"""The part of a comparison's `report.json` for machines: every number unrounded, and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from dft_eval.report.arms import About
from dft_eval.report.comparison import Comparison
from dft_eval.report.paper_claims import Claim
from dft_eval.report.paper_results import paper_results
from dft_eval.report.runs import ComparedRun
from dft_eval.report.sweep import Point


def results_of(
    comparison: Comparison, runs: Sequence[ComparedRun], abouts: Sequence[About], probs: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Everything unrounded."""
    return {
        "first_model": comparison.baseline,
        "arms": list(comparison.arms),
        "models": [dict(about.content) for about in abouts],
        "runs": [
            {"path": str(run.path), "model": run.model, "arm": run.model, "seed": run.seed, "task": run.task}
            | {"settings": run.settings, "metrics": run.metrics}
            for run in runs
        ],
        "scores": [
            {"task": task, "arm": arm, **asdict(scores.share.estimate), "lowest": scores.share.lowest}
            | {"highest": scores.share.highest, "num_seeds": len(scores.runs), "is_complete": scores.is_complete}
            for (task, arm), scores in comparison.grid.items()
            if scores.can_be_compared and scores.any_run.headline is not None
        ],
        "differences": [
            {"task": tasks[0], "model": arm, "arm": arm, "against": reference} | compared.record()
            for (tasks, arm, reference), compared in comparison.differences.items()
            if len(tasks) == 1
        ],
        "token_probabilities": None if probs is None else [_without_long_lists(each) for each in probs["checkpoints"]],
        "paper": [
            result._asdict() for task in dict.fromkeys(run.task for run in runs) for result in paper_results(task)
        ],
    }


def further_results(comparison: Comparison, claims: Sequence[Claim], points: Sequence[Point]) -> dict[str, Any]:
    """Conclusions from the scores and differences: means by domain, the paper's claims, sweeps."""
    domains = comparison.by_domain()
    return {
        "domains": [
            {"domain": domain, "tasks": names, "arm": arm, "mean": None if mean is None else asdict(mean)}
            for domain, names in domains.items()
            for arm in comparison.arms
            for mean in [comparison.mean(names, arm)]
        ],
        "domain_differences": [
            {"domain": comparison.domain(tasks[0]), "arm": arm, "against": reference} | compared.record()
            for (tasks, arm, reference), compared in comparison.differences.items()
            if list(tasks) in domains.values()
        ],
        "claims": [
            {"task": claim.task, "source": claim.source, "arm": claim.arm, "against": claim.against}
            | {"paper_points": claim.points, **claim.outcome._asdict()}
            for claim in claims
        ],
        "sweep": [asdict(point) for point in points],
    }


def provenance_of(runs: Sequence[ComparedRun], abouts: Sequence[About]) -> dict[str, str]:
    """Commands, models, prompts, data and versions, by run."""
    found: dict[str, str] = {}
    for about in abouts:
        if command := about.content.get("command"):
            found[f"{about.name}, training"] = f"{command}; {about.content.get('framework') or ''}".rstrip("; ")
    for run in runs:
        about_run = [f"model {run.settings.get('model', 'answers made elsewhere')}"]
        about_run += [f"prompts {str(run.settings.get('prompt_sha256'))[:12]}"]
        about_run += [f"data {digest[:12]}" for digest in dict(run.settings.get("data_sha256", {})).values()]
        about_run += [f"{name} {value}" for name, value in dict(run.settings.get("fingerprint", {})).items()]
        for environment in run.environments:
            git = environment.get("git") or {}
            changed = " (changed)" if git.get("is_dirty") else ""
            about_run.append(f"commit {str(git.get('commit', 'none'))[:12]}{changed}")
        found[f"{run.name}, {run.task}"] = "; ".join(about_run)
    return found


def _without_long_lists(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in checkpoint.items() if key not in ("histogram", "lowest_bin")}
