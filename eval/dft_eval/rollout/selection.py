"""The answers of a graded rollout that become training data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dft_eval.records.schema import Answer, Score
from dft_eval.rollout.prompt import Prompt

_COUNTED = ("answers", "right", "wrong", "truncated", "empty", "repeated", "beyond_maximum")


@dataclass(frozen=True)
class Chosen:
    """A prompt's usable answers: distinct texts that ended by themselves.

    Attributes:
        prompt: The prompt.
        right: Answers that were judged right.
        wrong: Answers that were judged wrong.
    """

    prompt: Prompt
    right: tuple[str, ...]
    wrong: tuple[str, ...]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Right and wrong answers side by side, each in one pair at most."""
        return list(zip(self.right, self.wrong, strict=False))


@dataclass(frozen=True)
class Selection:
    """Everything that was chosen.

    Attributes:
        chosen: One entry a prompt, in the order of the prompts; also where nothing of it is usable.
        pass_rates: How many prompts had k right answers, by k, of all that were judged, truncated ones too.
        counts: What became of the answers.
    """

    chosen: list[Chosen]
    pass_rates: dict[int, int]
    counts: dict[str, int]


def select_answers(
    prompts: Sequence[Prompt], answers: Sequence[Answer], scores: Sequence[Score], max_per_prompt: int | None = None
) -> Selection:
    """Choose from graded answers.

    Args:
        prompts: All that were asked.
        answers: All that were given, in any order.
        scores: Their verdicts, in the same order; none without a verdict.
        max_per_prompt: Most right answers and most wrong ones of a prompt, the first ones.
    """
    graded: dict[str, list[tuple[Answer, Score]]] = {prompt.prompt_id: [] for prompt in prompts}
    for answer, score in zip(answers, scores, strict=True):
        graded[answer.sample_id].append((answer, score))
    counts = Counter(dict.fromkeys(_COUNTED, 0))
    chosen, pass_rates = [], Counter[int]()
    for prompt in prompts:
        own = sorted(graded[prompt.prompt_id], key=lambda pair: pair[0].repeat)
        pass_rates[sum(bool(score.passed) for _, score in own)] += 1
        right, wrong = _usable(own, counts)
        counts["beyond_maximum"] += sum(len(texts[max_per_prompt:]) for texts in (right, wrong) if max_per_prompt)
        chosen.append(Chosen(prompt, tuple(right[:max_per_prompt]), tuple(wrong[:max_per_prompt])))
    return Selection(chosen, dict(sorted(pass_rates.items())), dict(counts))


def _usable(own: Sequence[tuple[Answer, Score]], counts: Counter[str]) -> tuple[list[str], list[str]]:
    """Texts of right and of wrong answers, each once; an answer without its end would teach never to end."""
    texts: Mapping[bool, dict[str, None]] = {True: {}, False: {}}
    for answer, score in own:
        counts["answers"] += 1
        text = answer.text.strip()
        kept = texts[bool(score.passed)]
        if answer.finish_reason == "length":
            counts["truncated"] += 1
        elif not text:
            counts["empty"] += 1
        elif text in kept:
            counts["repeated"] += 1
        else:
            kept[text] = None
            counts["right" if score.passed else "wrong"] += 1
    return list(texts[True]), list(texts[False])
