"""Scores with their uncertainty: intervals for one arm, differences between two over problems and seeds, verdicts.

The unit is the *problem*. Several answers to one problem are not independent, so a problem's score is the
mean over its answers and every interval is over problems (clusters). Two arms are compared on the same
problems: the difference is taken per problem first, which removes the problems' own difficulty from the
uncertainty. Where an arm was trained with several seeds, a difference is over problems and seeds, both taken as
samples. Scores lie in [0, 1]: passes, shares, F1.

scipy is imported where it is used: every worker of a scoring pool reads this package.
"""

from dft_eval.metrics.differences import Difference, VerdictName, holm, paired_difference, sign_flip_p_value
from dft_eval.metrics.estimates import ALPHA, CONFIDENCE, Estimate, wilson_interval
from dft_eval.metrics.seeds import Runs, SeededShare, domain_difference, seeded_difference, seeded_share
from dft_eval.metrics.shares import (
    check_mean,
    domain_mean,
    mean_by_problem,
    over_runs,
    pass_at_k,
    pass_at_k_share,
    score_share,
)

__all__ = [
    "ALPHA",
    "CONFIDENCE",
    "Difference",
    "Estimate",
    "Runs",
    "SeededShare",
    "VerdictName",
    "check_mean",
    "domain_difference",
    "domain_mean",
    "holm",
    "mean_by_problem",
    "over_runs",
    "paired_difference",
    "pass_at_k",
    "pass_at_k_share",
    "score_share",
    "seeded_difference",
    "seeded_share",
    "sign_flip_p_value",
    "wilson_interval",
]
