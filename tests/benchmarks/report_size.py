"""Time and memory of a large report: 8 arms, 15 benchmarks, 16 answers to each of 203 problems (390 thousand scores).

    python tests/benchmarks/report_size.py --json

Exit code 1 above 60 s or 1.5 GiB.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from dft_eval.metrics import mean_by_problem, score_share

ARMS, TASKS, PROBLEMS, ANSWERS = 8, 15, 203, 16
MOST_S, MOST_MIB = 60.0, 1536.0


def write_runs(folder: Path) -> int:
    """Run folders as `dft eval` leaves them; returns the number of score records."""
    rng, num_records = random.Random(0), 0
    for arm in range(ARMS):
        for task in range(TASKS):
            run = folder / f"arm{arm}" / f"task{task}"
            run.mkdir(parents=True)
            names = [f"{task}/{problem}" for problem in range(PROBLEMS) for _ in range(ANSWERS)]
            values = [float(rng.random() < 0.3 + 0.02 * arm) for _ in names]
            records = (
                {"sample_id": name, "repeat": index % ANSWERS, "passed": bool(value), "status": "ok", "score": value}
                for index, (name, value) in enumerate(zip(names, values, strict=True))
            )
            (run / "scores.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
            write_summary(run, f"task{task}", values, names)
            num_records += len(names)
    return num_records


def write_summary(run: Path, task: str, values: list[float], names: list[str]) -> None:
    estimate = asdict(score_share(values, names))
    counts = dict.fromkeys(("n_missing", "n_errors", "n_unjudged", "n_truncated"), 0)
    metrics = {
        **{"schema_version": 1, "task": task, "domain": f"domain {int(task[4:]) % 4}", "protocol": "p", "n": PROBLEMS},
        **{"num_repeats": ANSWERS, "n_scored": len(values), "statuses": {}, "is_complete": True, **counts},
        **{"incomplete_because": [], "headline": {"name": "accuracy", **estimate}, "metrics": {"accuracy": estimate}},
    }
    settings = {"schema_version": 1, "settings": {"task": task, "model": "m"}, "environments": []}
    problems = {"schema_version": 1, "headline": "accuracy", "problems": mean_by_problem(values, names)}
    for name, content in (("metrics", metrics), ("run", settings), ("problems", problems)):
        (run / f"{name}.json").write_text(json.dumps(content))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object, nothing else")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        num_records = write_runs(folder / "runs")
        command = [
            str(Path(sys.executable).parent / "dft"),
            "report",
            str(folder / "runs"),
            "--out",
            str(folder / "report"),
        ]
        started = time.monotonic()
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.monotonic() - started
        page_mib = (folder / "report" / "report.html").stat().st_size / 2**20
    peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    result = {"score_records": num_records, "seconds": round(seconds, 2), "peak_mib": round(peak_mib)}
    result |= {"page_mib": round(page_mib, 2)}
    print(json.dumps(result) if given.json else "\n".join(f"{key}: {value}" for key, value in result.items()))
    return int(seconds > MOST_S or peak_mib > MOST_MIB)


if __name__ == "__main__":
    sys.exit(main())
