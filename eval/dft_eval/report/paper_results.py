"""Results the paper reports (arXiv 2508.05629), by table; never merged with measured ones."""

from __future__ import annotations

from typing import NamedTuple

_MATH = ("math500", "minerva_math", "olympiadbench", "aime24", "amc23")
_LANGUAGES = ("python", "cpp", "java", "php", "ts", "cs", "sh", "js")
_CODE = ("humaneval", "humaneval_plus", *(f"multipl_e/{name}" for name in _LANGUAGES))
_VISION = (
    "mathverse: vision only",
    "mathverse: vision intensive",
    "mathverse: vision dominant",
    "mathverse",
    "mathvision",
    "wemath",
)

_TABLE_1 = """
LLaMA-3.2-3B | base | 1.63 1.36 1.01 0.41 1.56
LLaMA-3.2-3B | sft | 8.65 2.38 2.06 0.00 3.13
LLaMA-3.2-3B | dft | 12.79 2.84 2.90 0.83 3.91
LLaMA-3.1-8B | base | 1.86 0.98 0.94 0.21 1.01
LLaMA-3.1-8B | sft | 16.85 5.78 3.88 0.00 5.16
LLaMA-3.1-8B | dft | 27.44 8.26 6.94 0.41 12.03
DeepSeekMath-7B | base | 6.15 2.15 1.74 0.21 2.97
DeepSeekMath-7B | sft | 26.83 7.26 6.33 0.41 8.28
DeepSeekMath-7B | dft | 41.46 16.79 15.00 1.24 16.25
Qwen2.5-Math-1.5B | base | 31.66 8.51 15.88 4.16 19.38
Qwen2.5-Math-1.5B | sft | 43.76 13.04 12.63 1.87 18.75
Qwen2.5-Math-1.5B | dft | 64.89 20.94 27.08 6.87 38.13
Qwen2.5-Math-7B | base | 40.12 14.39 17.12 6.68 27.96
Qwen2.5-Math-7B | sft | 53.96 16.66 18.93 2.48 26.09
Qwen2.5-Math-7B | dft | 68.20 30.16 33.83 8.56 45.00
"""

_TABLE_3 = """
Qwen2.5-3B | base | 43.3 36.0 43.29 40.99 37.34 37.89 47.17 43.04 24.68 45.96
Qwen2.5-3B | sft | 41.5 34.8 42.07 42.24 37.97 37.27 43.40 41.77 20.25 47.83
Qwen2.5-3B | dft | 45.7 39.0 45.73 44.72 41.77 45.34 42.14 43.04 27.85 44.10
Qwen2.5-Coder-3B | base | 52.4 42.7 51.83 53.42 46.20 47.20 54.09 55.06 25.32 54.04
Qwen2.5-Coder-3B | sft | 51.8 43.9 51.22 51.55 48.10 54.66 59.12 51.27 34.18 54.04
Qwen2.5-Coder-3B | dft | 56.7 50.0 57.32 54.66 51.27 58.39 58.49 60.76 31.01 53.42
Qwen2.5-Coder-7B | base | 62.2 53.0 63.41 63.98 53.16 59.01 62.89 59.49 39.24 60.87
Qwen2.5-Coder-7B | sft | 54.9 48.8 54.88 64.60 51.27 62.11 68.55 60.76 33.54 65.22
Qwen2.5-Coder-7B | dft | 67.7 59.8 67.68 67.70 54.43 60.87 70.44 65.19 48.73 63.35
"""

_TABLE_4 = """
Qwen2.5-VL-3B | base | 28.81 30.96 31.60 33.83 21.25 4.10
Qwen2.5-VL-3B | sft | 30.96 33.63 32.74 35.66 21.02 23.33
Qwen2.5-VL-3B | dft | 32.49 35.91 33.50 37.54 22.30 23.71
"""


NOT_STATED = "not stated"
"""Stands for the model where the paper does not name it."""


class PaperResult(NamedTuple):
    """One figure of the paper.

    Attributes:
        model: As the paper calls it.
        arm: `base`, `sft` or `dft`.
        task: The benchmark's name here.
        percent: The figure.
        source: Where it stands.
        column: The benchmark's metric; empty for its headline.
    """

    model: str
    arm: str
    task: str
    percent: float
    source: str
    column: str = ""


def paper_results(task: str) -> list[PaperResult]:
    """Every figure of the paper for a benchmark, in the paper's order; none where it has none."""
    return [result for result in _RESULTS if result.task == task]


def _read(table: str, places: tuple[str, ...], source: str) -> list[PaperResult]:
    """The rows of a table whose columns are `TASK` or `TASK: METRIC`."""
    results = []
    for line in table.strip().splitlines():
        model, arm, figures = (part.strip() for part in line.split("|"))
        for place, figure in zip(places, figures.split(), strict=True):
            task, _, column = place.partition(": ")
            results.append(PaperResult(model, arm, task, float(figure), source, column))
    return results


_RESULTS = [
    *_read(_TABLE_1, _MATH, "Table 1"),
    *_read(_TABLE_3, _CODE, "Table 3"),
    *_read(_TABLE_4, _VISION, "Table 4"),
    # the paper names neither the model nor the metric
    *_read(
        "not stated | base | 31.24\nnot stated | sft | 36.62\nnot stated | dft | 30.14", ("nq_open",), "section 4.5"
    ),
]
