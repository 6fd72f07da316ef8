import random

import pytest

from dft_eval.tasks.toy import (
    CHARACTERS,
    MAX_RESPONSE_CHARACTERS,
    addition,
    demonstrate_with_slips,
    grade,
    invent_facts,
    split_additions,
)


def test_addition_is_worked_digit_by_digit():
    problem = addition(47, 85)
    assert (problem.prompt, problem.solution, problem.answer) == ("47+85=", "7+5=12;4+8+1=13;132", "132")


def test_every_addition_is_right_and_spelled_with_the_alphabet():
    problems, held_out = split_additions(500, random.Random(0))
    assert len(problems) == 7600
    assert not {problem.prompt for problem in problems} & {problem.prompt for problem in held_out}
    for problem in problems:
        first, second = problem.prompt.rstrip("=").split("+")
        assert int(problem.answer) == int(first) + int(second)
        assert set(problem.prompt + problem.solution) <= set(CHARACTERS)
        assert len(problem.solution) <= MAX_RESPONSE_CHARACTERS
        assert grade(problem, problem.solution, has_stopped=True).status == "ok"


def test_the_asked_share_is_corrupted_and_every_slip_ends_wrong():
    problems, _ = split_additions(500, random.Random(1))
    demonstrations = demonstrate_with_slips(problems[:1000], 0.3, random.Random(2))
    assert sum(demonstration.is_corrupted for demonstration in demonstrations) == 300
    for problem, demonstration in zip(problems, demonstrations, strict=False):
        assert grade(problem, demonstration.response, has_stopped=True).passed != demonstration.is_corrupted
        assert len(demonstration.response) <= MAX_RESPONSE_CHARACTERS


def test_the_seed_decides_everything():
    def make(seed):
        rng = random.Random(seed)
        problems, _ = split_additions(10, rng)
        return demonstrate_with_slips(problems[:50], 0.5, rng), invent_facts(20, rng)

    assert make(3) == make(3)
    assert make(3) != make(4)


def test_new_facts_are_new_and_have_no_letter_of_the_role_names_merges():
    known = {fact.prompt for fact in invent_facts(500, random.Random(0))}
    facts = invent_facts(500, random.Random(0), known=known)
    assert not known & {fact.prompt for fact in facts}
    assert "s" not in "".join(fact.prompt + fact.solution for fact in facts)


@pytest.mark.parametrize(
    ("response", "has_stopped", "status"),
    [
        ("7+5=12;4+8+1=13;132", True, "ok"),
        ("132", True, "ok"),
        ("7+5=13;4+8+1=13;133", True, "wrong"),
        ("7+5=12;4+8+1=13;", True, "no_answer"),
        ("7+5=12;4+8+1=13;132", False, "truncated"),
    ],
)
def test_grading(response, has_stopped, status):
    verdict = grade(addition(47, 85), response, has_stopped=has_stopped)
    assert verdict.status == status
    assert verdict.passed == (status == "ok")
