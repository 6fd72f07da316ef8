"""Coverage of the intervals, false verdicts and power of the differences between arms, over simulated studies.

    python tests/benchmarks/coverage.py [--studies 2000] [--json FILE]

A study has two arms (a page nine) scored pass or fail on the same problems, under training seeds of their own effect.
Some problems give all runs the same answer, some the runs of one arm, the rest vary from run to run. Printed for each
number of problems and seeds: how often the interval holds the true difference, beside Satterthwaite's, the bootstrap
over problems and seeds, and the interval that takes seeds for certain. Exit code 1 where a limit is missed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

sys.path.insert(0, str(Path(__file__).parents[2]))

from dft_eval.metrics import score_share, seeded_difference, sign_flip_p_value
from dft_eval.metrics.crossed import combined_reach, level_of_zero, problem_part, two_sided, with_power
from dft_eval.metrics.seeds import pooled_seed_part
from tests.eval.simulated_studies import Parts, Study, in_batches, simulate

NUM_SEEDS = (1, 2, 3, 5)
EFFECTS = {"none": 0.0, "small": 0.5, "as large as the problems' noise": 1.0, "three times as large": 3.0}
# Lowest and highest coverage by number of seeds. Few seeds cost length, never coverage: two cover 95-99%.
LIMITS = {1: (0.93, 0.97), 2: (0.93, 1.0), 3: (0.93, 0.99), 5: (0.93, 0.985)}
FEWEST_DISAGREEMENTS = 10  # below as many problems on which the arms differ, the discrete data cover more


def bootstrap_covers(differences: Any, truth: float, rng: np.random.Generator, num_resamples: int = 400) -> Any:
    """Tell which percentile intervals over resampled problems and seeds hold the truth."""
    num_problems, num_seeds = differences.shape[1:]
    of_problems = rng.multinomial(num_problems, [1 / num_problems] * num_problems, num_resamples) / num_problems
    of_seeds = rng.multinomial(num_seeds, [1 / num_seeds] * num_seeds, num_resamples) / num_seeds
    means = np.einsum("rp,nps,rs->nr", of_problems, differences, of_seeds, optimize=True)
    low, high = np.quantile(means, [0.025, 0.975], axis=1)
    return (low - 1e-9 <= truth) & (truth <= high + 1e-9)


def coverage(study: Study, num_studies: int, rng: np.random.Generator) -> dict[int, dict[str, float]]:
    """Measure how often the interval of the first two arms' difference holds, by number of seeds."""
    truth = float(study.true_differences()[0])
    batches: dict[int, list[Parts]] = {count: [] for count in NUM_SEEDS if count > 1 or not study.effect}
    bootstrapped: dict[int, list[Any]] = {count: [] for count in batches}
    for passes in in_batches(study, num_studies, max(NUM_SEEDS), rng):
        differences = passes[:, 1].astype(np.float32) - passes[:, 0]
        for count, found in batches.items():
            found.append(Parts.of(differences[..., :count].astype(np.float64)))
            if study.num_problems == 164 and count > 1:
                bootstrapped[count].append(bootstrap_covers(differences[:40, :, :count], truth, rng))
    results = {}
    for count, found in batches.items():
        parts = Parts.joined(found)
        reaches = {
            "interval": parts.reach(0.95),
            "satterthwaite": parts.satterthwaite(0.95),
            "problems alone": parts.problems_alone(0.95),
        }
        results[count] = {
            name: float((abs(parts.value - truth) <= reach + 1e-9).mean()) for name, reach in reaches.items()
        }
        if bootstrapped[count]:
            results[count]["bootstrap"] = float(np.concatenate(bootstrapped[count]).mean())
        results[count]["median half-width"] = float(np.median(reaches["interval"]))
    return results


def pooled_coverage(study: Study, num_seeds: int, num_studies: int, rng: np.random.Generator) -> dict[str, float]:
    """Measure the interval whose seed variance is pooled over arms; the first arm was not trained."""
    held: dict[str, list[Any]] = {"against the untrained arm": [], "between trained arms": []}
    for passes in in_batches(study, num_studies, num_seeds, rng):
        tables = [[passes[:, arm].astype(np.float64)] for arm in range(1, passes.shape[1])]
        last, before = (tables[index][0].mean(axis=-1) for index in (-1, -2))
        pairs = ((last - passes[:, 0, :, 0], 1 / num_seeds), (last - before, 2 / num_seeds))
        for found, (means, weight) in zip(held.values(), pairs, strict=True):
            reach = combined_reach(problem_part([means]), [pooled_seed_part(tables, weight)], two_sided(0.95))
            found.append(abs(means.mean(axis=-1)) <= reach)
    return {name: float(np.concatenate(found).mean()) for name, found in held.items()}


def p_values_of(passes: Any, parts: Parts, excludes: Any) -> Any:
    """Give the p-values of the arms against the first; with several seeds 1 where the interval holds 0: undecided."""
    if passes.shape[-1] == 1:  # McNemar's exact test
        won = (passes[:, 1:, :, 0] & ~passes[:, :1, :, 0]).sum(axis=-1)
        lost = (~passes[:, 1:, :, 0] & passes[:, :1, :, 0]).sum(axis=-1)
        return np.minimum(1, 2 * special.bdtr(np.minimum(won, lost), won + lost, 0.5))
    p_values = np.where(excludes, level_of_zero(parts.value, parts.reach), 1.0)
    means = passes.mean(axis=-1)
    for study, arm in zip(*np.nonzero(excludes), strict=True):
        flipped = sign_flip_p_value((means[study, arm + 1] - means[study, 0]).tolist())
        p_values[study, arm] = max(p_values[study, arm], flipped)
    return p_values


def false_verdicts(study: Study, num_seeds: int, num_studies: int, rng: np.random.Generator) -> dict[str, float]:
    """Measure verdicts on pages that compare the arms with the first, of which the last ones do not differ from it."""
    truth = study.true_differences()
    is_null = np.abs(truth) < 1e-9
    alone, adjusted, right = [], [], []
    for passes in in_batches(study, num_studies, num_seeds, rng):
        parts = Parts.of(passes[:, 1:].astype(np.float64) - passes[:, :1])
        excludes = np.abs(parts.value) > parts.reach(0.95) + 1e-12
        p_values = p_values_of(passes, parts, excludes)
        decided = excludes & (p_values < 0.05)
        ranked = np.sort(p_values, axis=1)
        steps = np.maximum.accumulate(ranked * np.arange(ranked.shape[1], 0, -1), axis=1)  # Holm
        kept = np.take_along_axis(steps, np.argsort(np.argsort(p_values, axis=1), axis=1), axis=1)
        claimed = excludes & (kept < 0.05)
        alone.append(decided[:, is_null].mean(axis=1))
        adjusted.append(claimed[:, is_null].any(axis=1))
        if not is_null.all():
            right.append((claimed & (np.sign(parts.value) == np.sign(truth)))[:, ~is_null].mean(axis=1))
    shares = {"one comparison": np.concatenate(alone), "any on a page": np.concatenate(adjusted)}
    if right:
        shares["true ones found"] = np.concatenate(right)
    return {name: float(values.mean()) for name, values in shares.items()}


def power(study: Study, num_seeds: int, num_studies: int, rng: np.random.Generator) -> float:
    """Measure how often the difference named detectable, here the one of average variance, is decided."""

    def parts_of(one: Study) -> Parts:
        batches = in_batches(one, num_studies, num_seeds, rng)
        return Parts.joined([Parts.of(each[:, 1].astype(np.float64) - each[:, 0]) for each in batches])

    parts = parts_of(study)
    average = replace(
        parts,
        problems=parts.problems._replace(variance=parts.problems.variance.mean()),
        seeds=[each._replace(variance=each.variance.mean(), rest=each.rest.mean()) for each in parts.seeds],
    )
    detectable = float(combined_reach(average.problems, average.seeds, with_power(0.95, 0.8)))
    first = study.accuracies[0]
    parts = parts_of(replace(study, accuracies=(first - detectable / 2, first + detectable / 2)))
    return float((parts.value > parts.reach(0.95)).mean())


def share_coverage(accuracy: float, num_problems: int, num_seeds: int, num_studies: int, rng: Any) -> float:
    """Measure how often the interval of an arm's score holds."""
    study = Study(num_problems, (accuracy, accuracy), shared=0.2, stable=0.2)
    problems = [str(index) for index in range(num_problems) for _ in range(num_seeds)]
    held = 0
    for passes in in_batches(study, num_studies, num_seeds, rng):
        for each in passes[:, 0]:
            estimate = score_share(each.ravel().astype(float).tolist(), problems)
            assert estimate.low is not None and estimate.high is not None
            held += estimate.low - 1e-12 <= accuracy <= estimate.high + 1e-12
    return held / num_studies


def check_against_library(rng: np.random.Generator) -> None:
    """Check that `Parts` gives the numbers of `seeded_difference`."""
    for num_seeds, accuracy in itertools.product((1, 2, 3), (0.02, 0.5)):
        passes = simulate(Study(30, (accuracy, accuracy + 0.2), 1.0), 20, num_seeds, rng)
        parts = Parts.of(passes[:, 1].astype(np.float64) - passes[:, 0])
        reach = parts.reach(0.95)
        for index, (first, second) in enumerate(passes):
            arms = [
                {seed: {str(row): float(arm[row, seed]) for row in range(30)} for seed in range(num_seeds)}
                for arm in (first, second)
            ]
            estimate = seeded_difference(arms[0], arms[1]).estimate
            ends = np.clip(parts.value[index] + np.array([-1, 1]) * reach[index], -1, 1)
            np.testing.assert_allclose(ends, (estimate.low, estimate.high), atol=1e-9)


def studies(sizes: tuple[int, ...]) -> Iterator[tuple[str, Study]]:
    """Give the studies of the table, with the name of their seed effect."""
    for num_problems, (name, effect) in itertools.product(sizes, EFFECTS.items()):
        for accuracies in ((0.05, 0.05), (0.5, 0.5), (0.95, 0.95), (0.05, 0.1), (0.5, 0.6)):
            if num_problems <= 500 or accuracies in ((0.05, 0.05), (0.5, 0.6), (0.95, 0.95)):
                yield name, Study(num_problems, accuracies, effect)
    for shared in (0.0, 0.8):
        yield "none", Study(164, (0.5, 0.5), shared=shared, stable=0.1)


def check_coverage(name: str, study: Study, results: dict[int, dict[str, float]]) -> list[str]:
    """Name the limits that a study's coverage misses."""
    missed = []
    for count, found in results.items():
        low, high = LIMITS[count]
        if study.num_disagreements < FEWEST_DISAGREEMENTS:
            high = 1.0
        if not low <= found["interval"] <= high:
            missed.append(f"{study}, seed effect {name}, {count} seeds: coverage {found['interval']:.3f}")
    return missed


def main() -> None:
    """Run the simulations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    started, rng, missed = time.process_time(), np.random.default_rng(0), []
    rows: list[dict[str, Any]] = []
    check_against_library(rng)
    for name, study in studies((30, 164, 500, 4000)):
        results = coverage(study, arguments.studies, rng)
        missed += check_coverage(name, study, results)
        for count, found in results.items():
            rows.append(
                {
                    "problems": study.num_problems,
                    "accuracies": study.accuracies,
                    "effect": name,
                    "shared": study.shared,
                    "seeds": count,
                }
                | found
            )
            numbers = "  ".join(f"{key} {100 * value:.1f}" for key, value in found.items())
            print(f"{study.num_problems:5} {study.accuracies} {name:32} {count} seeds: {numbers}", flush=True)
    for num_problems, accuracy, count in itertools.product((30, 164), (0.05, 0.5, 0.95), (1, 3)):
        held = share_coverage(accuracy, num_problems, count, arguments.studies, rng)
        print(f"score: {num_problems} problems, {accuracy}, {count} seeds: {100 * held:.1f}", flush=True)
        rows.append({"problems": num_problems, "accuracies": (accuracy,), "seeds": count, "score": held})
        if not 0.93 <= held <= 0.98:
            missed.append(f"score {accuracy} of {num_problems} problems, {count} seeds: coverage {held:.3f}")
    for num_problems, effect, count in itertools.product((30, 164), (0.0, 1.0, 3.0), (1, 2, 3)):
        if count == 1 and effect:
            continue
        for accuracies in ((0.5,) * 9, (0.05,) * 9, (0.5,) + (0.75,) * 4 + (0.5,) * 4):
            shares = false_verdicts(Study(num_problems, accuracies, effect), count, arguments.studies, rng)
            text = ", ".join(f"{key} {100 * value:.1f}" for key, value in shares.items())
            print(
                f"verdicts: {num_problems} problems, {accuracies[:2]}, effect {effect}, {count} seeds: {text}",
                flush=True,
            )
            rows.append({"problems": num_problems, "accuracies": accuracies, "effect": effect, "seeds": count} | shares)
            if shares["one comparison"] > 0.05 or shares["any on a page"] > 0.05:
                missed.append(f"{num_problems} problems, {accuracies}, effect {effect}, {count} seeds: {text}")
    for spread, effect, count in itertools.product((1.0, 2.0), (0.0, 1.0, 3.0), (2, 3)):
        study = Study(164, (0.5,) * 4, effect, spreads=(0.0, 1 / spread, 1.0, spread))
        shares = pooled_coverage(study, count, arguments.studies, rng)
        text = ", ".join(f"{key} {100 * value:.1f}" for key, value in shares.items())
        print(f"pooled over three arms, spreads {study.spreads}, effect {effect}, {count} seeds: {text}", flush=True)
        rows.append({"spreads": study.spreads, "effect": effect, "seeds": count} | shares)
        if spread == 1 and not all(0.94 <= share <= 0.985 for share in shares.values()):
            missed.append(f"pooled, effect {effect}, {count} seeds: {text}")
    for count, effect in ((1, 0.0), (2, 1.0), (3, 0.0), (3, 1.0), (5, 1.0)):
        found = power(Study(500, (0.5, 0.5), effect), count, arguments.studies, rng)
        print(f"power at the detectable difference: {count} seeds, effect {effect}: {100 * found:.1f}", flush=True)
        rows.append({"seeds": count, "effect": effect, "power": found})
        if not 0.7 <= found <= 0.9:
            missed.append(f"power {found:.2f} with {count} seeds, effect {effect}")
    print(f"{time.process_time() - started:.0f} s of CPU time")
    if arguments.json:
        arguments.json.write_text(json.dumps({"studies": arguments.studies, "rows": rows}, indent=1) + "\n")
    if missed:
        sys.exit("Missed:\n" + "\n".join(missed))


if __name__ == "__main__":
    main()
