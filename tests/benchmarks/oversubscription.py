"""Whether verdicts hold on a machine that is too busy: recorded programs scored again and again by too many workers.

    python tests/benchmarks/oversubscription.py --data $DFT_DATA_DIR --json

Exit code 1 where a verdict or a status changes, or an infrastructure error comes up.
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

from dft_eval.run.local_pool import LocalPool
from dft_eval.tasks.catalog import TASKS
from tests.eval.tasks.test_replay import LANGUAGES, recorded_answers


def main() -> None:
    """Score, compare, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the benchmarks' data, with the recorded answers")
    parser.add_argument("--programs", type=int, default=14, help="of each of the seven languages")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--per-core", type=int, default=4, help="workers for each core")
    parser.add_argument("--json", action="store_true", help="one JSON object, nothing else")
    options = parser.parse_args()
    num_workers = options.per_core * len(os.sched_getaffinity(0))
    runs, seconds = [], []
    for _ in range(options.runs):
        start = time.monotonic()
        runs.append(_score_all(options.data, options.programs, num_workers))
        seconds.append(round(time.monotonic() - start, 1))
    flips = {key: [run[key] for run in runs] for key in runs[0] if len({run[key] for run in runs}) > 1}
    statuses = Counter(status for run in runs for _, status in run.values())
    result = {
        "programs": len(runs[0]),
        "workers": num_workers,
        "seconds": seconds,
        "statuses": dict(statuses),
        "flips": flips,
    }
    sys.stdout.write(json.dumps(result, indent=None if options.json else 2) + "\n")
    if flips or statuses["infra_error"]:
        raise SystemExit(1)


def _score_all(data: Path, num_programs: int, num_workers: int) -> dict[str, tuple[bool | None, str]]:
    found = {}
    for language in LANGUAGES:
        answers = recorded_answers(data, language)
        chosen = answers[:: max(1, len(answers) // num_programs)][:num_programs]
        for score in LocalPool(num_workers).score(TASKS[f"multipl_e/{language}"](data, "qwen-base"), chosen):
            found[f"{language} {score.sample_id}"] = score.passed, score.status
    return found


if __name__ == "__main__":
    main()
