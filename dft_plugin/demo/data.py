"""Training files, held-out problems and arms of the demo, all decided by the seed."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dft_eval.rollout.training_files import conversations_entry
from dft_eval.tasks.toy import (
    Demonstration,
    ToyProblem,
    demonstrate,
    demonstrate_with_slips,
    invent_world,
)
from dft_plugin.demo.keys import Arm
from dft_plugin.demo.tiny_model import TEMPLATE

MIXED_BATCH = 32
ROUTE = json.dumps({"route": {"by": "column", "column": "kind", "rules": {"fact": "sft", "addition": "dft"}}})
"""`loss_config` of the run that learns the facts by SFT and keeps the skill by DFT."""


@dataclass(frozen=True)
class Recipe:
    """Sizes and learning rates; fixed before the seeds that were reported with them.

    Attributes:
        base_steps: Steps of the base model, on right additions and on facts that are not asked later.
        base_learning_rate: Its learning rate.
        num_old_facts: Facts of the base model: it knows what an answer looks like.
        num_demonstrations: Worked additions the arms learn from.
        corrupted_share: Share of them with a slip.
        addition_steps: Steps on them.
        addition_learning_rate: The same for SFT and DFT; low enough that training does not amplify rounding
            differences. At 5e-4, one framework's own runs from weights 1e-7 apart part within 100 steps.
        addition_adam_epsilon: For the same reason; near a good base model DFT's gradients all but vanish.
        num_new_facts: New facts.
        fact_steps: Steps on them.
        fact_learning_rate: The same for SFT and DFT.
        mixed_steps: Steps on the demonstrations and the new facts together, half of each batch from either.
        mixed_learning_rate: The same for SFT, DFT and the routed run.
        num_held_out: Additions no arm has seen.
        num_samples: Answers a problem at temperature 1.
    """

    base_steps: int = 1000
    base_learning_rate: float = 5e-3
    num_old_facts: int = 1000
    num_demonstrations: int = 2400
    corrupted_share: float = 0.3
    addition_steps: int = 200
    addition_learning_rate: float = 2e-4
    addition_adam_epsilon: float = 1e-5
    num_new_facts: int = 100
    fact_steps: int = 600
    fact_learning_rate: float = 2e-3
    mixed_steps: int = 1000
    mixed_learning_rate: float = 2e-3
    num_held_out: int = 500
    num_samples: int = 4


@dataclass(frozen=True)
class SeedPlan:
    """Everything one seed decides.

    Attributes:
        seed: The seed.
        folder: Its folder, relative to the demo's.
        additions: Held-out problems.
        facts: The new facts; asked in the words they were taught in.
        arms: To be trained, each after the one it starts from.
        data_sha256: Of the training files, by file name.
    """

    seed: int
    folder: str
    additions: tuple[ToyProblem, ...]
    facts: tuple[ToyProblem, ...]
    arms: tuple[Arm, ...]
    data_sha256: dict[str, str]

    def arm(self, name: str) -> Arm | None:
        """The arm called `name` within this seed; None where it is skipped."""
        return next((arm for arm in self.arms if arm.name == f"{self.folder}/{name}"), None)


def write_plan(seed: int, root: Path, recipe: Recipe, *, with_swift: bool) -> SeedPlan:
    """Write the training files of one seed below `root`; the same seed writes the same bytes."""
    rng = random.Random(seed)
    world = invent_world(
        rng,
        num_held_out=recipe.num_held_out,
        num_old_facts=recipe.num_old_facts,
        num_new_facts=recipe.num_new_facts,
    )
    base = [demonstrate(problem) for problem in (*world.known, *world.old_facts)]
    rng.shuffle(base)
    files = {
        "base": base,
        "noisy_additions": demonstrate_with_slips(
            world.known[: recipe.num_demonstrations], recipe.corrupted_share, rng
        ),
        "new_facts": [demonstrate(fact) for fact in world.new_facts],
    }
    noisy, facts = files["noisy_additions"], files["new_facts"]
    folder = f"seed{seed}"
    records = {name: [row.messages() for row in rows] for name, rows in files.items()}
    records["mixed"] = _alternate(noisy, facts, recipe.mixed_steps * MIXED_BATCH // 2, rng)
    hashes = {name: write_jsonl(root / folder / "data" / f"{name}.jsonl", rows) for name, rows in records.items()}
    write_register(root / folder / "data", records)
    arms = _make_arms(seed, folder, recipe, with_swift=with_swift)
    return SeedPlan(seed, folder, world.held_out, world.new_facts, tuple(arms), hashes)


def _make_arms(seed: int, folder: str, recipe: Recipe, *, with_swift: bool) -> Iterable[Arm]:
    def arm(
        name: str,
        data: str,
        loss_type: str,
        steps: int,
        batch_size: int,
        learning_rate: float,
        *,
        loss_config: str = "",
    ) -> Arm:
        is_base = name == "base"
        return Arm(
            name=f"{folder}/{name}",
            framework="ms_swift" if name.endswith("ms_swift") else "llamafactory",
            loss_type=loss_type,
            model=f"{folder}/init",
            data=f"{folder}/data/{data}.jsonl",
            template=TEMPLATE,
            num_steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            adam_epsilon=recipe.addition_adam_epsilon if data == "noisy_additions" else 1e-8,
            seed=seed,
            starts_from=None if is_base else f"{folder}/base",
            loss_config=loss_config,
        )

    additions = (recipe.addition_steps, 32, recipe.addition_learning_rate)
    facts = (recipe.fact_steps, min(25, recipe.num_new_facts), recipe.fact_learning_rate)
    yield arm("base", "base", "sft", recipe.base_steps, 32, recipe.base_learning_rate)
    if with_swift:
        yield arm("dft_ms_swift", "noisy_additions", "dft", *additions)
    yield arm("facts_sft", "new_facts", "sft", *facts)
    yield arm("facts_dft", "new_facts", "dft", *facts)
    yield arm("sft", "noisy_additions", "sft", *additions)
    yield arm("dft", "noisy_additions", "dft", *additions)
    mixed = (recipe.mixed_steps, MIXED_BATCH, recipe.mixed_learning_rate)
    yield arm("mixed_sft", "mixed", "sft", *mixed)
    yield arm("mixed_dft", "mixed", "dft", *mixed)
    yield arm("mixed_route", "mixed", "dft", *mixed, loss_config=ROUTE)


def _alternate(
    noisy: Sequence[Demonstration], facts: Sequence[Demonstration], num_each: int, rng: random.Random
) -> list[dict[str, Any]]:
    """Demonstrations and facts in turn, `num_each` of either, each pass over them in a new order."""

    def passes(rows: Sequence[Demonstration], kind: str) -> Iterator[dict[str, Any]]:
        while True:
            yield from ({**row.messages(), "kind": kind} for row in rng.sample(rows, len(rows)))

    pairs = itertools.islice(zip(passes(noisy, "addition"), passes(facts, "fact"), strict=False), num_each)
    return [row for pair in pairs for row in pair]


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> str:
    """Write a record a line; the folder is made where it is absent. Returns the hash of the bytes."""
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def write_register(folder: Path, names: Iterable[str]) -> None:
    """Write LLaMA-Factory's `dataset_info.json` for files NAME.jsonl of chat messages."""
    info = {name: conversations_entry(f"{name}.jsonl", {}) for name in names}
    (folder / "dataset_info.json").write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")
