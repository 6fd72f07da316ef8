"""The little benchmark with fewer problems than sums: the first 30 sums are one problem, the others one each."""

from dft_eval.metrics import score_share
from dft_eval.records.schema import Sample
from tests.eval.arithmetic import NUM_SAMPLES, Arithmetic

NUM_SHARED = 30
NUM_PROBLEMS = 1 + NUM_SAMPLES - NUM_SHARED


class Shared(Arithmetic):
    name = "shared"

    def samples(self):
        samples = super().samples()
        return [
            Sample(s.sample_id, s.prompt, s.stop, s.max_new_tokens, "shared" if index < NUM_SHARED else "")
            for index, s in enumerate(samples)
        ]

    def summarise(self, scores):
        by_problem = self.problem_scores(scores)
        return {"accuracy": score_share(list(by_problem.values()), list(by_problem))}


class AllOrHalf(Shared):
    """A problem is worth 1 where all of its sums are right, half where some are: no mean of its samples."""

    name = "all_or_half"

    def problem_scores(self, scores):
        return {key: 1.0 if value == 1 else 0.5 * (value > 0) for key, value in super().problem_scores(scores).items()}


class BySample(Shared):
    """Its headline counts sums, its interval too."""

    name = "by_sample"
    summarise = Arithmetic.summarise


class Inflated(Shared):
    """Its headline counts problems nobody solved as solved."""

    name = "inflated"

    def summarise(self, scores):
        values = [value for value in self.problem_scores(scores).values() if value > 0]
        return {"accuracy": score_share([*values, *[1.0] * (NUM_PROBLEMS - len(values))], list(map(str, range(11))))}


PROBLEM_TASKS = {kind.name: kind for kind in (Shared, AllOrHalf, BySample, Inflated)}
