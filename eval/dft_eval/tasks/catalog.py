"""Every benchmark by the name a person writes."""

from __future__ import annotations

from collections.abc import Mapping

from dft_eval.plugins import PluginTable
from dft_eval.tasks.base import Task
from dft_eval.tasks.code.humaneval import HumanEval
from dft_eval.tasks.code.humaneval_plus import HumanEvalPlus
from dft_eval.tasks.code.multipl_e import MULTIPL_E
from dft_eval.tasks.facts.natural_questions import NaturalQuestions
from dft_eval.tasks.math.answers import MATH
from dft_eval.tasks.math.gsm8k import Gsm8k, Gsm8kSteps
from dft_eval.tasks.toy_benchmarks import ToyAddition, ToyFacts
from dft_eval.tasks.vision.benchmarks import VISION

_KINDS: tuple[type[Task], ...] = (
    HumanEval,
    HumanEvalPlus,
    *MULTIPL_E,
    *MATH,
    Gsm8k,
    Gsm8kSteps,
    NaturalQuestions,
    *VISION,
    ToyAddition,
    ToyFacts,
)

ENTRY_POINTS = "dft_eval.tasks"
TASKS: Mapping[str, type[Task]] = PluginTable(ENTRY_POINTS, Task, {kind.name: kind for kind in _KINDS})
