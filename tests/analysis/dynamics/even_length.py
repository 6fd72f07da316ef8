"""A benchmark that an untrained model gets right now and then; scoring processes import it, so it imports little."""

from dft_eval.records.schema import Score
from tests.eval.arithmetic import Arithmetic


class EvenLength(Arithmetic):
    """Right is an answer of an even number of characters."""

    def score(self, answer):
        passed = len(answer.completion or "") % 2 == 0
        return Score(answer.sample_id, answer.repeat, passed, "ok" if passed else "wrong", float(passed))
