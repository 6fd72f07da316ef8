"""The demo's report: what is said, from the numbers alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dft_eval.report.document import Cell, Fact, Report, Section, Table
from dft_plugin.demo.arms import ArmResult
from dft_plugin.demo.data import Recipe, SeedPlan
from dft_plugin.demo.figures import agreement_figure, curve_figures, token_prob_figures
from dft_plugin.demo.results import ADDITION_ARMS, FACT_ARMS, MIXED_ARMS, SeedResults
from dft_plugin.demo.summary import difference_line, percent, points, score_line
from dft_plugin.demo.tables import NAMES, TONES, difference_table, example_table, score_table

_SKILL_T1, _SKILL_GREEDY, _FACTS_GREEDY = 2, 3, 5  # in COMPARISONS


def make_report(
    plans: Sequence[SeedPlan],
    scored: Sequence[SeedResults],
    trained: Mapping[str, ArmResult],
    recipe: Recipe,
    provenance: Mapping[str, str],
    command: str,
    out_name: str,
) -> Report:
    """The whole report of one demo; curves, histogram and examples are those of the first seed.

    Args:
        plans: What each seed trained.
        scored: The numbers of each seed, in the same order.
        trained: Results of the arms by name.
        recipe: Sizes.
        provenance: See `describe_provenance`.
        command: What repeats the demo.
        out_name: Of the demo's folder.
    """
    plan, first = plans[0], scored[0]
    return Report(
        title="dft demo: SFT and DFT on a tiny model, through the real frameworks",
        headline=_headline(scored, recipe),
        facts=_facts(scored),
        banners=_banners(scored),
        sections=(
            _skill_section(scored, recipe),
            _facts_section(scored, recipe),
            _mixed_section(scored, recipe),
            Section(
                "What happens during training",
                (
                    "Both losses are logged with the same two true quantities, so that the curves can be compared; "
                    "the raw DFT loss is much smaller than the SFT loss and says little by itself.",
                ),
                figures=curve_figures(plan, trained),
            ),
            _token_section(first),
            _agreement_section(scored, plan, trained),
            Section("Examples at temperature 1", tables=(example_table(plan, first),)),
        ),
        limits=_limits(recipe),
        commands=_commands(plan, command, out_name),
        provenance=provenance,
        results={
            "seeds": [results.record() for results in scored],
            "arms": {
                name: {
                    "wall_s": result.wall_s,
                    "cpu_s": result.cpu_s,
                    "framework": result.framework_version,
                    "last_step": result.history[-1],
                }
                for name, result in trained.items()
            },
        },
    )


def _score(scored: Sequence[SeedResults], task: str, arm: str, decoding: str) -> str:
    line = score_line(scored, task, arm, decoding)
    return "not measured" if line is None else percent(line.value)


def _headline(scored: Sequence[SeedResults], recipe: Recipe) -> str:
    return (
        f"Taught with {recipe.corrupted_share:.0%} wrong demonstrations, a model sampled at temperature 1 is right on "
        f"{_score(scored, 'addition', 'sft', 't1')} of unseen problems after SFT and on "
        f"{_score(scored, 'addition', 'dft', 't1')} after DFT. Taught {recipe.num_new_facts} new facts, it knows "
        f"{_score(scored, 'facts', 'facts_sft', 'greedy')} of them after SFT and "
        f"{_score(scored, 'facts', 'facts_dft', 'greedy')} after DFT."
    )


def _facts(scored: Sequence[SeedResults]) -> tuple[Fact, ...]:
    labels = {
        _SKILL_T1: "Skill, temperature 1: DFT minus SFT, points",
        _SKILL_GREEDY: "Skill, greedy: DFT minus SFT, points",
        _FACTS_GREEDY: "New facts, greedy: DFT minus SFT, points",
    }
    facts = []
    for index, label in labels.items():
        line = difference_line(scored, index)
        facts.append(Fact(points(line.value), label, f"{line.verdict} ({line.spread})", TONES[line.verdict]))
    worst, label = _worst_agreement(scored), "LLaMA-Factory against ms-swift"
    if worst is None:
        facts.append(Fact("skipped", label, "ms-swift was not found"))
    else:
        facts.append(Fact(f"{worst:.1e}", label, "largest relative difference of the DFT loss, over all steps"))
    return tuple(facts)


def _banners(scored: Sequence[SeedResults]) -> tuple[str, ...]:
    banners = []
    if len(scored) == 1:
        banners.append(
            "One training seed: the intervals cover the choice of problems and samples, not another training run. "
            "dft demo --seeds 3 repeats everything."
        )
    if _worst_agreement(scored) is None:
        banners.append(
            "Skipped: the arm “DFT trained by ms-swift”, because no ms-swift environment was found. "
            "Make it with make setup, or pass --swift-python PATH."
        )
    return tuple(banners)


def _skill_section(scored: Sequence[SeedResults], recipe: Recipe) -> Section:
    return Section(
        "A skill under noisy demonstrations: two-digit addition, worked step by step",
        (
            f"The base model adds well. It is then trained on {recipe.num_demonstrations:,} worked additions, "
            f"{recipe.corrupted_share:.0%} of them with a slip in one step that the rest follows. "
            f"Scored on {recipe.num_held_out} additions no arm has seen, {recipe.num_samples} answers each at "
            "temperature 1.",
            "Cross-entropy asks SFT to slip as often as its teachers; the model's first choice mostly stays right, so "
            "greedy decoding hides most of that. DFT weighs each token by the probability the model gives it and so "
            "gives almost no gradient to the slips, which the base model finds unlikely.",
        ),
        (score_table(scored, "addition", ADDITION_ARMS), difference_table(scored, "addition", ADDITION_ARMS)),
    )


def _facts_section(scored: Sequence[SeedResults], recipe: Recipe) -> Section:
    return Section(
        "New knowledge: made-up facts",
        (
            f"The base model knows the form of such facts, not these {recipe.num_new_facts}. The right word is "
            "improbable before it is learned: DFT gives almost no gradient to the very tokens that had to be learned. "
            "Use SFT, or another objective, for new knowledge.",
        ),
        (score_table(scored, "facts", FACT_ARMS), difference_table(scored, "facts", FACT_ARMS)),
    )


def _mixed_section(scored: Sequence[SeedResults], recipe: Recipe) -> Section:
    arms = ("base", *MIXED_ARMS)
    return Section(
        "Both in one run: new facts and a known skill, routed",
        (
            f"Half of each batch, over {recipe.mixed_steps} steps, is noisy additions, half new facts. One objective "
            "for both loses one of them. The routed run has loss_config: {route: {by: column, column: kind, rules: "
            "{fact: sft, addition: dft}}}, which sends each token to the objective that suits its data.",
        ),
        (
            score_table(scored, "addition", arms, label="The known skill"),
            difference_table(scored, "addition", arms),
            score_table(scored, "facts", arms, label="The new facts"),
            difference_table(scored, "facts", arms),
        ),
    )


def _token_section(first: SeedResults) -> Section:
    rows = []
    for (task, arm), probs in first.token_probs.items():
        shares = [Cell(percent(share)) for share in (probs.share_low, probs.share_high)]
        name = Cell(NAMES[arm], "held-out additions" if task == "addition" else "new facts")
        rows.append((name, *shares, Cell(f"{probs.sum_nll / probs.num_tokens:.3f}")))
    columns = ("Arm", "Tokens with p < .05", "Tokens with p ≥ .95", "Mean NLL (nats)")
    return Section(
        "How sure each model is of the right tokens",
        (f"The right solutions go through each model token by token (seed {first.seed}).",),
        (Table(columns, tuple(sorted(rows, key=lambda row: row[0].note))),),
        token_prob_figures(first.token_probs),
    )


def _worst_agreement(scored: Sequence[SeedResults]) -> float | None:
    worst = [max(results.loss_differences) for results in scored if results.loss_differences is not None]
    return max(worst) if worst else None


def _agreement_section(scored: Sequence[SeedResults], plan: SeedPlan, trained: Mapping[str, ArmResult]) -> Section:
    title = "One loss in two frameworks"
    first = scored[0]
    if first.loss_differences is None:
        return Section(title, ("Skipped: ms-swift was not found, so DFT was trained by LLaMA-Factory alone.",))
    tokens = {
        True: "Both logged the same token ids and labels for the first example.",
        False: "Their logs show DIFFERENT token ids or labels for the first example: the curves are not comparable.",
        None: "Token ids could not be read from their logs; the evidence is that the first losses agree.",
    }[first.same_first_example]
    text = (
        "DFT was trained twice from the same base model on the same file in the same order: by "
        "llamafactory-cli train with loss_type: dft, and by swift sft with --loss_type dft, each in its own "
        f"environment with its own version of transformers. {tokens}"
    )
    differences = (
        f"The losses differ by {first.loss_differences[0]:.1e} (relative) at the first step and by at most "
        f"{max(first.loss_differences):.1e} in {len(first.loss_differences)} steps (seed {first.seed}). Kernels of two "
        "versions round differently, and training amplifies what rounding began."
    )
    return Section(title, (text, differences), figures=agreement_figure(plan, trained, first.loss_differences))


def _limits(recipe: Recipe) -> tuple[str, ...]:
    return (
        "It says nothing about large models: 0.2 million parameters, two toy tasks. It shows the mechanism, not a "
        "score you will get.",
        "It is about keeping a skill, not gaining one: the base model starts near the top. From a weak base, DFT can "
        "be worse than SFT.",
        "The gain is mostly in sampling at temperature 1. Greedy answers of SFT and DFT may be equally good, as they "
        "are above wherever the verdict is “no decision”.",
        "The wrong demonstrations are random slips. Errors that all point the same way are harder.",
        f"SFT and DFT share one learning rate a task ({recipe.addition_learning_rate:g} and "
        f"{recipe.fact_learning_rate:g}). The first was lowered until both frameworks' losses stayed together, which "
        "also weakens what SFT unlearns; neither loss is at its own best.",
        "Facts are asked in the words they were taught in: it measures memory, not use.",
    )


def _commands(plan: SeedPlan, command: str, out_name: str) -> tuple[str, ...]:
    """The demo, and two of its arms alone."""
    arms = [arm for arm in (plan.arm("dft"), plan.arm("dft_ms_swift")) if arm is not None]
    starts = {"llamafactory": "llamafactory-cli train", "ms_swift": "swift sft"}
    alone = [f"CUDA_VISIBLE_DEVICES= {starts[arm.framework]} {out_name}/jobs/{arm.job_name}.yaml" for arm in arms]
    return (command, "# one arm alone, in its framework's environment, after the demo", *alone)
