"""Two toy tasks a tiny model can learn on a CPU: worked two-digit addition, and made-up facts.

Addition can be *generalised*: held-out problems tell whether a model kept the skill after demonstrations
some of which are wrong. Facts can only be *memorised*: nothing but the demonstration says what the answer
is. Everything here is text in, text out; every choice comes from the `random.Random` handed in.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

CHARACTERS = "0123456789+=;?abcdefghijklmnopqrstuvwxyz"
"""Every character of both tasks; one token each."""

MAX_RESPONSE_CHARACTERS = 20
"""The longest right response of both tasks: `9+9=18;9+9+1=19;198`, with its final `;` never written."""

Status = Literal["ok", "wrong", "no_answer", "truncated"]

_CONSONANTS = "bdfgklmnprtvz"
_VOWELS = "aeiou"


@dataclass(frozen=True)
class ToyProblem:
    """A question with one right answer.

    Attributes:
        sample_id: Made from the question, never from a position.
        prompt: What the model is given.
        solution: A right response, as a demonstration would show it.
        answer: What counts: the text after the last `;` of the response.
    """

    sample_id: str
    prompt: str
    solution: str
    answer: str


@dataclass(frozen=True)
class Demonstration:
    """One training example.

    Attributes:
        prompt: What the model is given.
        response: What it is taught to write.
        is_corrupted: Whether the response is wrong on purpose.
    """

    prompt: str
    response: str
    is_corrupted: bool = False

    def messages(self) -> dict[str, list[dict[str, str]]]:
        """The record both frameworks read."""
        return {
            "messages": [
                {"role": "user", "content": self.prompt},
                {"role": "assistant", "content": self.response},
            ]
        }


@dataclass(frozen=True)
class ToyWorld:
    """Everything there is to know.

    Attributes:
        known: Additions for training.
        held_out: Additions that are only asked.
        old_facts: Facts a base model may be taught.
        new_facts: Facts it is taught later.
    """

    known: tuple[ToyProblem, ...]
    held_out: tuple[ToyProblem, ...]
    old_facts: tuple[ToyProblem, ...]
    new_facts: tuple[ToyProblem, ...]


@dataclass(frozen=True)
class Verdict:
    """Verdict on one response.

    Attributes:
        passed: Whether its answer is the right one.
        status: `ok`, `wrong`, `no_answer` (nothing after the last `;`) or `truncated` (it never stopped).
    """

    passed: bool
    status: Status


def addition(first: int, second: int) -> ToyProblem:
    """The problem `first + second`, both of two digits."""
    return ToyProblem(f"addition/{first}+{second}", f"{first}+{second}=", *_worked(first, second))


def split_additions(num_held_out: int, rng: random.Random) -> tuple[list[ToyProblem], list[ToyProblem]]:
    """All 8,100 sums of two two-digit numbers, shuffled: (for training, held out)."""
    problems = [addition(first, second) for first in range(10, 100) for second in range(10, 100)]
    if not 0 < num_held_out < len(problems):
        raise ValueError(f"num_held_out={num_held_out}; between 1 and {len(problems) - 1} is accepted.")
    rng.shuffle(problems)
    return problems[num_held_out:], problems[:num_held_out]


def demonstrate(problem: ToyProblem) -> Demonstration:
    """The right solution."""
    return Demonstration(problem.prompt, problem.solution)


def demonstrate_with_slips(
    problems: Sequence[ToyProblem], corrupted_share: float, rng: random.Random
) -> list[Demonstration]:
    """Solutions of addition problems, `corrupted_share` of them (rounded) with one slip at random.

    A slip replaces the result of one of the two steps by another number of the step's range; the rest
    of the solution follows from it, so its answer is wrong.
    """
    corrupted = set(rng.sample(range(len(problems)), round(corrupted_share * len(problems))))
    return [
        _with_slip(problem, rng) if index in corrupted else demonstrate(problem)
        for index, problem in enumerate(problems)
    ]


def invent_facts(count: int, rng: random.Random, *, known: Collection[str] = ()) -> list[ToyProblem]:
    """`count` facts about names that are not in `known` (prompts): a random word for a random name."""
    facts: dict[str, ToyProblem] = {}
    while len(facts) < count:
        prompt = f"{_word(3, rng)}?"
        if prompt not in facts and prompt not in known:
            answer = _word(2, rng)
            facts[prompt] = ToyProblem(f"fact/{prompt}", prompt, answer, answer)
    return list(facts.values())


def invent_world(
    rng: random.Random, *, num_held_out: int = 500, num_old_facts: int = 1000, num_new_facts: int = 100
) -> ToyWorld:
    """Additions and facts of one seed; no fact is both old and new."""
    known, held_out = split_additions(num_held_out, rng)
    old = invent_facts(num_old_facts, rng)
    new = invent_facts(num_new_facts, rng, known={fact.prompt for fact in old})
    return ToyWorld(tuple(known), tuple(held_out), tuple(old), tuple(new))


def grade(problem: ToyProblem, response: str, *, has_stopped: bool) -> Verdict:
    """Grade a response by its answer, the text after its last `;`.

    Args:
        problem: What was asked.
        response: What the model wrote, without the end-of-sequence token.
        has_stopped: Whether it wrote the end-of-sequence token.
    """
    if not has_stopped:
        return Verdict(False, "truncated")
    answer = response.rpartition(";")[2]
    if not answer:
        return Verdict(False, "no_answer")
    return Verdict(answer == problem.answer, "ok" if answer == problem.answer else "wrong")


def _worked(first: int, second: int, slip_step: int | None = None, slip_result: int = 0) -> tuple[str, str]:
    """Solution and answer, the result of step 0 (units) or 1 (tens) replaced where asked."""
    units = slip_result if slip_step == 0 else first % 10 + second % 10
    carry = units // 10
    tens = slip_result if slip_step == 1 else first // 10 + second // 10 + carry
    answer = f"{tens}{units % 10}"
    steps = f"{first % 10}+{second % 10}={units};{first // 10}+{second // 10}+{carry}={tens};"
    return steps + answer, answer


def _with_slip(problem: ToyProblem, rng: random.Random) -> Demonstration:
    first, second = (int(number) for number in problem.prompt.rstrip("=").split("+"))
    step = rng.randrange(2)
    right = first % 10 + second % 10 if step == 0 else int(problem.answer) // 10
    wrong = rng.choice([result for result in range(step, 19 + step) if result != right])
    return Demonstration(problem.prompt, _worked(first, second, step, wrong)[0], is_corrupted=True)


def _word(num_syllables: int, rng: random.Random) -> str:
    return "".join(rng.choice(_CONSONANTS) + rng.choice(_VOWELS) for _ in range(num_syllables))
