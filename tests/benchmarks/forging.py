"""Programs that want to pass without solving anything, over the Python tasks, on a machine that is too busy.

    python tests/benchmarks/forging.py --data $DFT_DATA_DIR

Exit code 1 where one is judged `ok`, or where the infrastructure is blamed for one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from dft_eval.records.schema import Answer
from dft_eval.run.local_pool import LocalPool
from dft_eval.sandbox.choose import open_sandbox
from dft_eval.tasks.catalog import TASKS
from tests.eval.tasks.test_forging import PYTHON

PYTHON_TASKS = ("humaneval", "humaneval_plus", "multipl_e/python")


def main() -> None:
    """Score, count, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the benchmarks' data")
    parser.add_argument("--programs", type=int, default=200, help="at least so many")
    parser.add_argument("--per-core", type=int, default=4, help="workers for each core")
    parser.add_argument("--json", action="store_true", help="one JSON object, nothing else")
    options = parser.parse_args()
    num_workers = options.per_core * len(os.sched_getaffinity(0))
    num_problems = -(-options.programs // (len(PYTHON) * len(PYTHON_TASKS)))
    start = time.monotonic()
    tasks = [TASKS[name](options.data, "strict") for name in PYTHON_TASKS]
    found = [
        (f"{task.name} {score.sample_id} {list(PYTHON)[score.repeat]}", score.status, dict(score.detail["verdicts"]))
        for task in tasks
        for score in LocalPool(num_workers).score(task, _answers(task, num_problems))
    ]
    wrong = [each for each in found if each[1] in ("ok", "infra_error") or "ok" in each[2].values()]
    result = {
        "sandbox": open_sandbox().name,
        "programs": len(found),
        "workers": num_workers,
        "seconds": round(time.monotonic() - start, 1),
        "statuses": dict(Counter(status for _, status, _ in found)),
        "judged_ok_or_not_judged": wrong,
    }
    sys.stdout.write(json.dumps(result, indent=None if options.json else 2) + "\n")
    if wrong:
        raise SystemExit(1)


def _answers(task, num_problems: int) -> list[Answer]:
    """Each attack on the first problems; `repeat` is the attack's position."""
    problems = list(task.problems)[:num_problems]
    return [
        Answer(sample_id, repeat=index, completion=attack)
        for sample_id in problems
        for index, attack in enumerate(PYTHON.values())
    ]


if __name__ == "__main__":
    main()
