"""Verdicts Qwen and EvalPlus recorded for Qwen2.5-Coder-1.5B base: a few here; `python -m` this module for all."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dft_eval.records.schema import Answer
from dft_eval.tasks.catalog import TASKS

FOLDER = "replay/qwen2.5-coder-1.5b-base"
LANGUAGES = ("cpp", "java", "php", "ts", "cs", "sh", "js")
EXPLAINED = {
    "php": {"HumanEval_16_count_distinct_characters"},  # PHP 8 and the recorded PHP 7 differ
    "sh": {"HumanEval_92_any_int", "HumanEval_47_median"},  # `bc` was not installed there
}
NUM_QUICK = 8


def recorded_answers(data_dir, language):
    """What the model wrote."""
    lines = (data_dir / FOLDER / f"pred_{language}_output.jsonl").read_text().splitlines()
    answers = []
    for record in map(json.loads, lines):
        completion = record["wholecode"].removeprefix(record["prompt"].strip() + "\n")
        answers.append(Answer(record["task_id"], completion=completion))
    return answers


def compare(data_dir, language, limit=None):
    """(number compared, ids whose verdict differs from the recorded one)."""
    task = TASKS[f"multipl_e/{language}"](data_dir, "qwen-base")
    recorded = json.loads((data_dir / FOLDER / f"humaneval-{language}-details.json").read_text())
    answers = recorded_answers(data_dir, language)[:limit]
    with ThreadPoolExecutor(2) as pool:
        scores = list(pool.map(task.score, answers))
    return len(scores), {
        score.sample_id for score in scores if score.passed is not recorded[score.sample_id][0][1]["passed"]
    }


def compare_evalplus(data_dir, limit=None):
    """(number compared, ids whose base or plus verdict differs from EvalPlus' recorded one)."""
    task = TASKS["humaneval_plus"](data_dir, "qwen-base")
    recorded = json.loads((data_dir / FOLDER / "evalplus/generated_eval_results.json").read_text())["eval"]
    answers = [
        Answer(sample_id, program=recorded[sample_id][0]["solution"]) for sample_id in list(task.problems)[:limit]
    ]
    with ThreadPoolExecutor(2) as pool:
        scores = list(pool.map(task.score, answers))
    differ = set()
    for score in scores:
        (entry,) = recorded[score.sample_id]
        base, plus = (entry[f"{name}_status"] == "pass" for name in ("base", "plus"))
        if [score.detail["verdicts"][name] == "ok" for name in ("base", "plus")] != [base, base and plus]:
            differ.add(score.sample_id)
    return len(scores), differ


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
def test_recorded_verdicts_are_reproduced(backend, language, open_code_task, data_dir):
    if (backend, language) == ("landlock", "cs"):
        assert "mono" in TASKS["multipl_e/cs"](data_dir, "strict").missing()[0].what  # refused, never scored
        return
    open_code_task(f"multipl_e/{language}")
    _, differ = compare(data_dir, language, NUM_QUICK)
    assert differ <= EXPLAINED.get(language, set())


@pytest.mark.slow
def test_recorded_evalplus_verdicts_are_reproduced(open_code_task, data_dir):
    open_code_task("humaneval_plus")
    assert compare_evalplus(data_dir, 4 * NUM_QUICK) == (4 * NUM_QUICK, set())


if __name__ == "__main__":
    for each in sys.argv[2:] or (*LANGUAGES, "evalplus"):
        folder = Path(sys.argv[1])
        count, odd = compare_evalplus(folder) if each == "evalplus" else compare(folder, each)
        sys.stdout.write(f"{each}: {count - len(odd)}/{count} {sorted(odd)}\n")
