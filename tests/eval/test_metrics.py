import itertools
import math

import numpy as np
import pytest
from scipy import stats

from dft_eval.metrics import (
    domain_mean,
    holm,
    mean_by_problem,
    over_runs,
    paired_difference,
    pass_at_k,
    pass_at_k_share,
    score_share,
    sign_flip_p_value,
    wilson_interval,
)


def test_wilson_interval_matches_its_formula():
    n, k, z = 50, 45, stats.norm.ppf(0.975)
    p = k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    estimate = wilson_interval(k, n)
    assert estimate.value == p
    assert estimate.low == pytest.approx(centre - reach, abs=1e-12)
    assert estimate.high == pytest.approx(centre + reach, abs=1e-12)


def test_wilson_interval_is_the_one_of_scipy():
    for n in (1, 7, 164):
        for k in range(n + 1):
            theirs, ours = stats.binomtest(k, n).proportion_ci(method="wilson"), wilson_interval(k, n)
            assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-14)


def test_wilson_interval_at_the_ends_is_not_a_point():
    assert wilson_interval(100, 100).low == pytest.approx(0.9630065, abs=1e-6)
    assert wilson_interval(0, 100).high == pytest.approx(0.0369935, abs=1e-6)


@pytest.mark.parametrize(("passed", "items"), [(1, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(passed, items):
    with pytest.raises(ValueError, match="passes of"):
        wilson_interval(passed, items)


def test_mean_by_problem_averages_the_answers_of_each_problem():
    assert mean_by_problem([1, 0, 1, 1], ["a", "a", "b", "b"]) == {"a": 0.5, "b": 1.0}


def test_scores_outside_the_unit_interval_are_refused():
    with pytest.raises(ValueError, match="lie in"):
        mean_by_problem([2.0], ["a"])


def test_one_answer_a_problem_gets_wilson():
    assert score_share([1, 0, 1, 1], list("abcd")) == wilson_interval(3, 4)


def test_several_answers_are_clustered_by_problem():
    scores, problems = [1, 1, 1, 0, 0, 0], ["a", "a", "b", "b", "c", "c"]
    estimate = score_share(scores, problems)
    # Wilson's interval is where the score test with this variance does not reject
    num_trials = 0.5 * 0.5 / stats.sem([1.0, 0.5, 0.0]) ** 2
    assert estimate.num_items == 3
    for end in (estimate.low, estimate.high):
        assert abs(0.5 - end) / math.sqrt(end * (1 - end) / num_trials) == pytest.approx(stats.t.ppf(0.975, 2))


def test_equal_shares_are_not_certain():
    estimate = score_share([0.5] * 10, list("abcdefghij"))
    assert estimate.low < 0.25 < 0.75 < estimate.high


def test_a_domain_is_the_mean_of_its_benchmarks():
    benchmarks = [wilson_interval(0, 100), wilson_interval(50, 100)]
    estimate = domain_mean(benchmarks)
    assert (estimate.value, estimate.num_items) == (0.25, 200)
    assert estimate.low == pytest.approx(0.25 - (0.5 - benchmarks[1].low) / 2)
    assert estimate.high == pytest.approx(0.25 + math.hypot(benchmarks[0].high, benchmarks[1].high - 0.5) / 2)
    assert domain_mean(benchmarks[:1]) == benchmarks[0]


def test_a_domain_of_large_benchmarks_has_the_stratified_interval():
    rng = np.random.default_rng(2)
    first, second = rng.random(4000), rng.random(2500)
    estimate = domain_mean([score_share(each.tolist(), [str(i) for i in range(len(each))]) for each in (first, second)])
    reach = 1.96 * math.hypot(stats.sem(first), stats.sem(second)) / 2
    assert estimate.high - estimate.value == pytest.approx(reach, rel=2e-3)


def test_a_domain_without_an_interval_of_a_benchmark_has_none():
    assert domain_mean([wilson_interval(1, 2), score_share([0.5], ["a"])]).low is None
    with pytest.raises(ValueError, match="no benchmarks"):
        domain_mean([])


def test_repeating_every_answer_does_not_narrow_the_interval():
    once = score_share([0.25, 0.5, 1.0, 0.0], list("abcd"))
    often = score_share([0.25, 0.5, 1.0, 0.0] * 10, list("abcd") * 10)
    assert (often.low, often.high) == pytest.approx((once.low, once.high))


def test_all_right_several_times_is_not_certain():
    estimate = score_share([1] * 40, [str(index // 4) for index in range(40)])
    assert estimate.low == wilson_interval(10, 10).low


def test_paired_difference_matches_the_paired_t_test():
    first = {"a": 0.0, "b": 0.25, "c": 0.5, "d": 0.5, "e": 1.0}
    second = {"a": 0.5, "b": 0.5, "c": 0.5, "d": 1.0, "e": 1.0}
    expected = stats.ttest_rel(list(second.values()), list(first.values())).confidence_interval(0.95)
    difference = paired_difference(first, second)
    assert difference.estimate.value == pytest.approx(0.25)
    assert (difference.estimate.low, difference.estimate.high) == pytest.approx((expected.low, expected.high))
    assert difference.p_value == pytest.approx(2 * 0.5**3)  # three non-zero differences, all of one sign
    assert difference.verdict == "no decision"


def test_pairing_is_by_problem_not_by_order():
    first, second = {"a": 0.0, "b": 1.0}, {"b": 1.0, "a": 0.0}
    assert paired_difference(first, second).estimate.value == 0


def test_different_problems_are_refused():
    with pytest.raises(ValueError, match="differ in 2 problems"):
        paired_difference({"a": 1.0}, {"b": 1.0})


def test_sign_flip_is_exact_mcnemar_for_passes_and_failures():
    deltas = [1.0] * 8 + [-1.0] * 2 + [0.0] * 90
    assert sign_flip_p_value(deltas) == pytest.approx(stats.binomtest(8, 10).pvalue)


@pytest.mark.parametrize("count", [2, 5, 13, 40, 700])
@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_sign_flip_is_the_permutation_test_of_scipy(count, shift):
    rng = np.random.default_rng(count)
    deltas = np.round(rng.normal(shift, 1, count) * 3) / 3
    expected = stats.permutation_test(
        (deltas, np.zeros(count)),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=9999,
        batch=500,
        rng=rng,
    ).pvalue
    is_exact = np.count_nonzero(deltas) <= 13
    allowed = 1e-12 if is_exact else 5 * math.sqrt(2 * expected * (1 - expected) / 9999) + 2e-4
    assert sign_flip_p_value(deltas.tolist()) == pytest.approx(expected, abs=allowed)


def test_sign_flip_without_differences_is_one():
    assert sign_flip_p_value([]) == sign_flip_p_value([0.0, 0.0]) == sign_flip_p_value([0.0, 0.5]) == 1.0


def test_five_wins_and_no_loss_decide_nothing():
    # t on these 100 differences excludes 0; McNemar's exact p is 0.0625
    first = dict.fromkeys(map(str, range(100)), 0.0)
    second = {key: float(int(key) < 5) for key in first}
    difference = paired_difference(first, second)
    assert difference.estimate.low > 0
    assert difference.p_value == pytest.approx(0.0625)
    assert difference.verdict == "no decision"


@pytest.mark.parametrize(("wins", "verdict"), [(40, "better"), (-40, "worse")])
def test_clear_differences_are_decided(wins, verdict):
    first = {str(index): float(wins < 0) for index in range(100)}
    second = {key: float((int(key) < abs(wins)) == (wins > 0)) if int(key) < abs(wins) else first[key] for key in first}
    assert paired_difference(first, second).verdict == verdict


def test_identical_arms_are_undecided_within_the_rule_of_three():
    same = dict.fromkeys(map(str, range(100)), 1.0)
    difference = paired_difference(same, same)
    assert difference.verdict == "no decision"
    assert difference.p_value == 1.0
    assert difference.estimate.high == pytest.approx(1 - 0.05**0.01)


def test_all_lost_is_worse_without_claiming_certainty():
    first, second = (dict.fromkeys(map(str, range(100)), value) for value in (1.0, 0.0))
    difference = paired_difference(first, second)
    assert difference.verdict == "worse"
    assert difference.estimate.low == -1.0
    assert -0.95 < difference.estimate.high < -0.9


def test_two_problems_all_lost_decide_nothing():
    assert paired_difference({"a": 1.0, "b": 1.0}, {"a": 0.0, "b": 0.0}).verdict == "no decision"


def test_one_run_has_no_interval_and_three_have_students():
    assert over_runs([0.4]).low is None
    estimate = over_runs([0.1, 0.2, 0.3])
    assert estimate.low == pytest.approx(0.2 - stats.t.ppf(0.975, 2) * 0.1 / math.sqrt(3))


def test_holm_matches_a_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize(
    ("n", "c", "k"), [(n, c, k) for n in range(1, 7) for c in range(n + 1) for k in range(1, n + 1)]
)
def test_pass_at_k_is_the_share_of_subsets_with_a_pass(n, c, k):
    outcomes = [True] * c + [False] * (n - c)
    subsets = list(itertools.combinations(outcomes, k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, subsets)) / len(subsets), abs=1e-15)


@pytest.mark.parametrize(("n", "c", "k"), [(4, 5, 1), (4, -1, 1), (4, 2, 5), (4, 2, 0)])
def test_pass_at_k_refuses_counts_that_cannot_be(n, c, k):
    with pytest.raises(ValueError, match="passes of"):
        pass_at_k(n, c, k)


def test_pass_at_k_share_is_over_problems():
    passes = {"a/0": [True, False], "a/1": [False, False], "b/0": [True, True]}
    problems = {"a/0": "a", "a/1": "a", "b/0": "b"}
    assert pass_at_k_share(passes, problems, 1) == score_share([0.5, 0.0, 1.0], ["a", "a", "b"])
    assert pass_at_k_share(passes, problems, 2).value == (0.5 + 1) / 2
    assert pass_at_k_share({"a": [True], "b": [False]}, {"a": "a", "b": "b"}, 1) == wilson_interval(1, 2)
    with pytest.raises(ValueError, match="k=3"):
        pass_at_k_share(passes, problems, 3)
