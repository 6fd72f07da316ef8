"""Training rows that hold a question of an evaluation set.

Two tests, both on words (letters and digits, lower case, NFKC, punctuation apart): the row's question is a
question of the set, or prompt or response share 13 words in a row with one, the length of GPT-3's report
(arXiv 2005.14165, appendix C).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dft_plugin.data.columns import RowProblem
from dft_plugin.errors import MissingPrerequisiteError

NUM_WORDS = 13
_WORD = re.compile(r"\w+")


class EvaluationSet(NamedTuple):
    """Questions of one task of `dft eval list`.

    Attributes:
        questions: Text by id.
        data_sha256: Digest of each of its files.
    """

    questions: Mapping[str, str]
    data_sha256: Mapping[str, str]

    def record(self) -> dict[str, Any]:
        """Lines of the manifest."""
        return {"questions": len(self.questions), "data_sha256": dict(self.data_sha256)}


def load_evaluation_sets(patterns: Sequence[str]) -> dict[str, EvaluationSet]:
    """The sets of the tasks that match, their data verified; the tools that score them need not be there.

    Raises:
        EvalError: an unknown task, or its data are not there.
        MissingPrerequisiteError: the evaluation's packages are not installed.
    """
    if not patterns:
        return {}
    try:
        from dft_eval.run.fetch import locate_data
        from dft_eval.run.selection import select_tasks
        from dft_eval.tasks.catalog import TASKS
    except ImportError as error:
        raise MissingPrerequisiteError(f"--decontaminate: {error}; run: pip install 'dft-plugin[eval]'") from None
    sets = {}
    for name in select_tasks(patterns, TASKS):
        kind = TASKS[name]
        task = kind(locate_data(name, kind.data_files), kind.protocols[0])
        digests = {file.path: file.sha256 or f"md5 {file.md5}" for file in kind.data_files}
        sets[name] = EvaluationSet(task.questions(), digests)
    return sets


class Contamination:
    """All questions of some sets, ready for many rows.

    Args:
        sets: By the task's name.
    """

    def __init__(self, sets: Mapping[str, EvaluationSet]) -> None:
        self._questions: dict[str, str] = {}
        self._sequences: dict[str, str] = {}
        for each in sets.values():
            for question_id, text in each.questions.items():
                words = _words(text)
                if words:
                    self._questions.setdefault(" ".join(words), question_id)
                for sequence in _sequences(words):
                    self._sequences.setdefault(sequence, question_id)

    def check(self, question: str, prompt: str, response: str) -> None:
        """Pass a row that holds none of the questions.

        Raises:
            RowProblem: it does; the detail names the question.
        """
        if not self._questions:
            return
        found = self._questions.get(" ".join(_words(question)))
        if found is not None:
            raise RowProblem("same_question", found)
        for name, text in (("prompt", prompt), ("response", response)):
            for sequence in _sequences(_words(text)):
                if sequence in self._sequences:
                    raise RowProblem("shared_13_words", f"{self._sequences[sequence]} in the {name}: {sequence}")


def _words(text: str) -> list[str]:
    return _WORD.findall((text if text.isascii() else unicodedata.normalize("NFKC", text)).lower())


def _sequences(words: Sequence[str]) -> list[str]:
    return [" ".join(words[start : start + NUM_WORDS]) for start in range(len(words) - NUM_WORDS + 1)]
