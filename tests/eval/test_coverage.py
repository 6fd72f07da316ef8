import numpy as np
import pytest

from tests.benchmarks.coverage import check_against_library, coverage, false_verdicts, power
from tests.eval.simulated_studies import Study


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def test_the_simulation_measures_the_intervals_of_the_library(rng):
    check_against_library(rng)


@pytest.mark.parametrize("effect", [0.0, 1.0])
def test_intervals_hold_for_new_problems_and_seeds(rng, effect):
    found = coverage(Study(100, (0.5, 0.6), effect), 1000, rng)
    assert set(found) == ({2, 3, 5} if effect else {1, 2, 3, 5})
    for count, shares in found.items():
        assert 0.935 <= shares["interval"] <= {1: 0.965, 5: 0.98}.get(count, 1.0)
        if effect:
            assert shares["problems alone"] < 0.92


@pytest.mark.parametrize(("num_seeds", "effect"), [(1, 0.0), (2, 1.0), (2, 3.0), (3, 1.0), (3, 3.0)])
def test_pages_rarely_claim_what_is_not_there(rng, num_seeds, effect):
    shares = false_verdicts(Study(30, (0.5,) * 9, effect), num_seeds, 500, rng)
    assert shares["one comparison"] <= 0.05
    assert shares["any on a page"] <= 0.05


def test_the_detectable_difference_is_found_four_times_of_five(rng):
    assert 0.72 <= power(Study(200, (0.5, 0.5), 1.0), 3, 1000, rng) <= 0.86
