import itertools
import math

import numpy as np
import pytest
from scipy import stats

from dft_eval.metrics import domain_difference, paired_difference, score_share, seeded_difference, seeded_share

PROBLEMS = [f"problem {index}" for index in range(40)]


def runs_of(table, seeds):
    return {seed: dict(zip(PROBLEMS, table[:, index], strict=False)) for index, seed in enumerate(seeds)}


def passes(rng, num_seeds, rate=0.5):
    return (rng.random((len(PROBLEMS), num_seeds)) < rate).astype(float)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.mark.parametrize("seeds", [(None, None), (None, 3), (0, 0), (0, 1)])
def test_one_run_each_is_the_paired_difference(rng, seeds):
    first, second = (runs_of(passes(rng, 1), [seed]) for seed in seeds)
    (before,), (after,) = first.values(), second.values()
    assert seeded_difference(first, second) == paired_difference(before, after)


def test_an_untrained_arm_stands_against_every_seed(rng):
    base, trained = passes(rng, 1), passes(rng, 3)
    against_each = seeded_difference(runs_of(np.repeat(base, 3, axis=1), (0, 1, 2)), runs_of(trained, (0, 1, 2)))
    difference = seeded_difference(runs_of(base, [None]), runs_of(trained, (0, 1, 2)))
    assert difference.estimate.value == pytest.approx(trained.mean() - base.mean())
    assert difference.p_value == against_each.p_value
    assert (difference.estimate.low, difference.estimate.high) == pytest.approx(
        (against_each.estimate.low, against_each.estimate.high)
    )


@pytest.mark.parametrize("num_seeds", [2, 3])
def test_runs_that_agree_are_known_to_half_a_problem(num_seeds):
    # no seed changes any answer: two seeds half a problem apart would look the same
    rng = np.random.default_rng(1)
    first, second = passes(rng, 1, 0.3), passes(rng, 1, 0.7)
    one = seeded_difference(runs_of(first, [0]), runs_of(second, [0]))
    repeated = (runs_of(np.repeat(table, num_seeds, 1), range(num_seeds)) for table in (first, second))
    several = seeded_difference(*repeated)
    of_seeds = stats.t.ppf(0.975, num_seeds - 1) * 0.5 / len(PROBLEMS) / num_seeds
    reach, alone = (each.estimate.high - each.estimate.value for each in (several, one))
    assert reach == pytest.approx(math.hypot(alone, of_seeds))
    assert several.detectable > one.detectable


def test_two_seeds_that_tie_are_not_taken_for_certain():
    # ten of 40 problems won by both seeds, other ones: without half a problem's doubt p is that of problems alone
    second = np.zeros((40, 2))
    second[:10, 0] = second[10:20, 1] = 1
    base = {None: dict.fromkeys(PROBLEMS, 0.0)}
    tied = seeded_difference(base, runs_of(second, (0, 1)))
    second[10, 1] = 0
    assert tied.p_value > 0.01
    assert tied.p_value < seeded_difference(base, runs_of(second, (0, 1))).p_value


def test_seeds_alone_vary_as_students_t_over_seeds():
    # every problem gains the same in a seed: seeds are the only source of uncertainty
    gains = np.array([0.05, 0.2, 0.11])
    first = np.zeros((40, 3))
    second = first + gains
    difference = seeded_difference(runs_of(first, range(3)), runs_of(second, range(3)))
    expected = stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    unseen = (1 - 0.05 ** (1 / 40)) * (1 + gains.mean())
    reach = math.hypot((expected.high - expected.low) / 2, unseen)
    assert difference.estimate.high - difference.estimate.value == pytest.approx(reach)


def test_seeds_of_unpaired_arms_may_differ_in_number(rng):
    first, second = passes(rng, 2, 0.1), passes(rng, 3, 0.9)
    difference = seeded_difference(runs_of(first, (0, 1)), runs_of(second, (0, 1, 2)))
    assert difference.estimate.value == pytest.approx(second.mean() - first.mean())
    assert "2 and 3 unpaired seeds" in difference.estimate.method
    swapped = seeded_difference(runs_of(second, (0, 1, 2)), runs_of(first, (0, 1)))
    assert (swapped.estimate.low, swapped.estimate.high) == pytest.approx(
        (-difference.estimate.high, -difference.estimate.low)
    )


@pytest.mark.parametrize("is_swapped", [False, True])
def test_a_lone_trained_run_adds_the_variance_of_a_seed(is_swapped):
    gains = np.array([0.1, 0.2, 0.3])
    arms = [runs_of(np.zeros((40, 1)), [0]), runs_of(np.zeros((40, 3)) + gains, range(3))]
    difference = seeded_difference(*reversed(arms) if is_swapped else arms)
    # Student's t for one value against three of one variance
    reach = stats.t.ppf(0.975, 2) * gains.std(ddof=1) * math.sqrt(1 / 3 + 1)
    unseen = (1 - 0.05 ** (1 / 40)) * 1.2
    assert abs(difference.estimate.low - difference.estimate.value) == pytest.approx(math.hypot(reach, unseen))


def test_the_interval_and_the_test_agree(rng):
    decided = set()
    for rate, num_seeds in itertools.product((0.5, 0.6, 0.7, 0.8, 0.9, 1.0), (2, 3, 5)):
        difference = seeded_difference(
            runs_of(passes(rng, num_seeds), range(num_seeds)), runs_of(passes(rng, num_seeds, rate), range(num_seeds))
        )
        excludes = difference.estimate.low > 0 or difference.estimate.high < 0
        assert (difference.p_value < 0.05) <= excludes
        assert (difference.verdict != "no decision") == (difference.p_value < 0.05)
        decided.add(difference.verdict)
    assert decided == {"better", "no decision"}


def test_five_wins_in_each_of_three_seeds_decide_nothing():
    second = np.zeros((40, 3))
    second[:5] = 1
    assert seeded_difference(runs_of(np.zeros((40, 3)), range(3)), runs_of(second, range(3))).verdict == "no decision"


def test_identical_arms_are_undecided():
    same = runs_of(np.ones((40, 2)), range(2))
    difference = seeded_difference(same, same)
    assert (difference.verdict, difference.p_value, difference.detectable) == ("no decision", 1.0, None)
    of_seeds = stats.t.ppf(0.975, 1) / 160  # seeds that tie are known to half a problem
    assert difference.estimate.high == pytest.approx(math.hypot(1 - 0.05 ** (1 / 40), of_seeds))


def test_one_problem_has_no_interval():
    difference = seeded_difference({0: {"a": 0.0}, 1: {"a": 0.0}}, {0: {"a": 1.0}, 1: {"a": 1.0}})
    assert (difference.estimate.low, difference.verdict, difference.p_value) == (None, "no decision", 1.0)


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ({}, {0: {"a": 1.0}}, "none"),
        ({None: {"a": 1.0}, 0: {"a": 1.0}}, {0: {"a": 1.0}}, "None, 0"),
        ({0: {"a": 1.0}, 1: {"a": 1.0}}, {0: {"a": 1.0}, 1: {"b": 1.0}}, "differ in 2 problems"),
        ({0: {"a": 1.0}}, {0: {"b": 1.0}}, "differ in 2 problems"),
        ({0: {}}, {0: {}}, "no problems"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(first, second, found):
    with pytest.raises(ValueError, match=found):
        seeded_difference(first, second)


def test_seeds_are_paired_by_name_not_by_order(rng):
    first, second = runs_of(passes(rng, 3), (0, 1, 2)), runs_of(passes(rng, 3), (0, 1, 2))
    assert seeded_difference(first, dict(reversed(second.items()))) == seeded_difference(first, second)


def test_a_share_over_seeds_is_clustered_by_problem(rng):
    table = passes(rng, 3, 0.3)
    share = seeded_share(runs_of(table, (0, 1, 2)))
    assert share.estimate == score_share(table.ravel().tolist(), np.repeat(PROBLEMS, 3).tolist())
    assert share.by_seed == pytest.approx({seed: table[:, seed].mean() for seed in range(3)})
    assert (share.lowest, share.highest) == pytest.approx((table.mean(axis=0).min(), table.mean(axis=0).max()))


def test_a_share_of_one_run_is_its_own(rng):
    table = passes(rng, 1)
    assert seeded_share(runs_of(table, [None])).estimate == score_share(table.ravel().tolist(), PROBLEMS)


def test_a_domain_of_one_benchmark_is_the_benchmark(rng):
    first, second = runs_of(passes(rng, 3), range(3)), runs_of(passes(rng, 3, 0.8), range(3))
    assert domain_difference({"code": first}, {"code": second}) == seeded_difference(first, second)


def test_benchmarks_share_the_effect_of_a_seed():
    # all benchmarks gain alike in a seed: more of them say nothing more about seeds
    gains = np.array([0.05, 0.2, 0.11])
    benchmarks = [str(index) for index in range(4)]
    first, second = (runs_of(np.zeros((40, 3)) + each, range(3)) for each in (0, gains))
    reach = stats.t.ppf(0.975, 2) * gains.std(ddof=1) / math.sqrt(3)
    unseen = (1 - 0.05 ** (1 / 40)) * (1 + gains.mean()) / math.sqrt(4)
    difference = domain_difference(dict.fromkeys(benchmarks, first), dict.fromkeys(benchmarks, second))
    assert difference.estimate.num_items == 160
    assert difference.estimate.high - difference.estimate.value == pytest.approx(math.hypot(reach, unseen))


def test_a_domain_of_single_runs_is_stratified(rng):
    firsts, seconds = ({name: runs_of(passes(rng, 1), [seed]) for name in "ab"} for seed in (None, 0))
    difference = domain_difference(firsts, seconds)
    errors = []
    for name in "ab":
        (before,), (after,) = firsts[name].values(), seconds[name].values()
        errors.append(stats.sem([after[problem] - before[problem] for problem in PROBLEMS]))
    num_free = sum(each**2 for each in errors) ** 2 / sum(each**4 / 39 for each in errors)
    reach = stats.t.ppf(0.975, num_free) * math.hypot(*errors) / 2
    assert difference.estimate.high - difference.estimate.value == pytest.approx(reach)


def test_a_domain_needs_the_same_benchmarks_and_seeds(rng):
    runs = runs_of(passes(rng, 2), (0, 1))
    with pytest.raises(ValueError, match="same ones"):
        domain_difference({"code": runs}, {"maths": runs})
    with pytest.raises(ValueError, match="other seeds"):
        domain_difference({"code": runs, "maths": {0: runs[0]}}, {"code": runs, "maths": runs})


def test_further_arms_pool_the_variance_of_seeds():
    # seeds alone vary: the analysis of variance of three arms with two, three and two runs
    gains = [np.array([0.1, 0.14]), np.array([0.3, 0.24, 0.27]), np.array([0.5, 0.46])]
    arms = [runs_of(np.zeros((40, len(each))) + each, range(len(each))) for each in gains]
    difference = seeded_difference(arms[0], arms[1], others=[arms[2], {None: arms[2][0]}])
    pooled = sum(((each - each.mean()) ** 2).sum() for each in gains) / 4
    reach = stats.t.ppf(0.975, 4) * math.sqrt(pooled * (1 / 2 + 1 / 3))
    unseen = (1 - 0.05 ** (1 / 40)) * (1 + difference.estimate.value)
    assert difference.estimate.high - difference.estimate.value == pytest.approx(math.hypot(reach, unseen))
    assert "pooled with 2 other arms" in difference.estimate.method


def test_further_arms_against_an_untrained_one_count_its_seeds_alone():
    gains = np.array([0.3, 0.24])
    base, arm, other = ({None: dict.fromkeys(PROBLEMS, 0.0)}, *(runs_of(np.zeros((40, 2)) + gains, range(2)),) * 2)
    difference = seeded_difference(base, arm, others=[other])
    reach = stats.t.ppf(0.975, 2) * gains.std(ddof=1) / math.sqrt(2)
    unseen = (1 - 0.05 ** (1 / 40)) * (1 + gains.mean())
    assert difference.estimate.high - difference.estimate.value == pytest.approx(math.hypot(reach, unseen))


def test_further_arms_on_other_problems_are_refused(rng):
    arm = runs_of(passes(rng, 2), (0, 1))
    with pytest.raises(ValueError, match="differ in"):
        seeded_difference(arm, arm, others=[{0: {"x": 1.0}, 1: {"x": 0.0}}])
