"""The demo's numbers: answers, token probabilities, comparisons and framework agreement of each seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dft_eval.metrics import ALPHA, Difference, holm, paired_difference
from dft_plugin.analysis.token_probs import TokenProbs
from dft_plugin.demo.agreement import first_example_agrees, relative_differences
from dft_plugin.demo.answers import Answers, TinyModel
from dft_plugin.demo.arms import ArmResult
from dft_plugin.demo.data import Recipe, SeedPlan

DECODINGS = ("greedy", "t1")
ADDITION_ARMS = ("base", "sft", "dft", "dft_ms_swift")
FACT_ARMS = ("base", "facts_sft", "facts_dft")
MIXED_ARMS = ("mixed_sft", "mixed_dft", "mixed_route")
COMPARISONS = (
    ("addition", "base", "sft", "t1"),
    ("addition", "base", "dft", "t1"),
    ("addition", "sft", "dft", "t1"),
    ("addition", "sft", "dft", "greedy"),
    ("facts", "facts_sft", "facts_dft", "t1"),
    ("facts", "facts_sft", "facts_dft", "greedy"),
    ("addition", "mixed_sft", "mixed_route", "t1"),
    ("facts", "mixed_dft", "mixed_route", "greedy"),
)
"""(task, first arm, second arm, decoding): stated before any score is seen; all of them are reported."""


@dataclass(frozen=True)
class SeedResults:
    """One seed.

    Attributes:
        seed: The seed.
        answers: By (task, arm, decoding).
        token_probs: Of the right solutions of each task, by (task, arm).
        differences: In the order of `COMPARISONS`.
        holm_p_values: Of them, adjusted together.
        loss_differences: Relative, a step each, LLaMA-Factory against ms-swift; None where ms-swift was skipped.
        same_first_example: Whether both frameworks logged the same token ids and labels; None if unknown.
    """

    seed: int
    answers: Mapping[tuple[str, str, str], Answers]
    token_probs: Mapping[tuple[str, str], TokenProbs]
    differences: tuple[Difference, ...]
    holm_p_values: tuple[float, ...]
    loss_differences: tuple[float, ...] | None
    same_first_example: bool | None

    def verdict(self, index: int) -> str:
        """Of comparison `index`; `no decision` too where the adjusted p-value is not below 0.05."""
        return self.differences[index].verdict if self.holm_p_values[index] < ALPHA else "no decision"

    def record(self) -> dict[str, Any]:
        """For the canonical report."""
        return {
            "seed": self.seed,
            "scores": [
                {"task": task, "arm": arm, "decoding": decoding, **asdict(answers.score)}
                | {"num_answers": len(answers.answers), "num_truncated": answers.count("truncated")}
                | {"num_no_answer": answers.count("no_answer")}
                for (task, arm, decoding), answers in self.answers.items()
            ],
            "comparisons": [
                {
                    "task": task,
                    "first": first,
                    "second": second,
                    "decoding": decoding,
                    **asdict(self.differences[index]),
                }
                | {"holm_p_value": self.holm_p_values[index], "verdict": self.verdict(index)}
                for index, (task, first, second, decoding) in enumerate(COMPARISONS)
            ],
            "token_probs": [
                {"task": task, "arm": arm, **probs.record()} for (task, arm), probs in self.token_probs.items()
            ],
            "framework_agreement": None
            if self.loss_differences is None
            else {
                "num_steps": len(self.loss_differences),
                "max_relative_difference": max(self.loss_differences),
                "same_first_example": self.same_first_example,
            },
        }


def score_seed(
    plan: SeedPlan,
    root: Path,
    recipe: Recipe,
    trained: Mapping[str, ArmResult],
) -> SeedResults:
    """Ask every arm of a seed, write its answers beside it, compare.

    Args:
        plan: The seed's arms and problems.
        root: The demo's folder.
        recipe: How many samples.
        trained: Results of the arms by name.
    """
    problems = {"addition": plan.additions, "facts": plan.facts}
    asked = {"addition": (*ADDITION_ARMS, *MIXED_ARMS), "facts": (*FACT_ARMS, *MIXED_ARMS)}
    answers: dict[tuple[str, str, str], Answers] = {}
    probs: dict[tuple[str, str], TokenProbs] = {}
    for name in dict.fromkeys((*ADDITION_ARMS, *FACT_ARMS, *MIXED_ARMS)):
        arm = plan.arm(name)
        if arm is None:
            continue
        model = TinyModel(root / arm.trained_model)
        for task in [task for task, names in asked.items() if name in names]:
            greedy = model.ask(problems[task], num_samples=1, seed=None)
            sampled = model.ask(problems[task], num_samples=recipe.num_samples, seed=plan.seed)
            for decoding, given in zip(DECODINGS, (greedy, sampled), strict=True):
                answers[task, name, decoding] = given
                given.write(root / "answers" / arm.name / f"{task}_{decoding}.jsonl")
            probs[task, name] = model.token_probs(problems[task])
    differences = tuple(
        paired_difference(answers[task, first, decoding].by_problem, answers[task, second, decoding].by_problem)
        for task, first, second, decoding in COMPARISONS
    )
    native, other = plan.arm("dft"), plan.arm("dft_ms_swift")
    losses = None
    same = None
    if native is not None and other is not None:
        losses = tuple(relative_differences(trained[native.name], trained[other.name]))
        same = first_example_agrees(root / native.log, root / other.log)
    adjusted = tuple(holm([difference.p_value for difference in differences]))
    return SeedResults(plan.seed, answers, probs, differences, adjusted, losses, same)
