"""What a large report costs: 8 arms on 15 benchmarks with 16 answers a sample, about 390,000 scores.

Writes the run folders, then makes the report in a process of its own. Prints one JSON object; exit code 1 where it took
more time or memory than allowed. The records are the same each time.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dft_eval.metrics import score_share

TIME_LIMIT_S, MEMORY_LIMIT_GIB = 60.0, 1.5
ARMS = ("base", "sft", "dft", "mix", "route", "asft", "iw", "psft")
NUM_TASKS, NUM_SAMPLES, NUM_REPEATS = 15, 204, 16
DOMAINS = ("math", "code", "facts")
WORDS = "So we add the two numbers and get the sum of both which is then the answer to this problem".split()


def write_run(folder: Path, task: str, domain: str, chance: float, rng: random.Random) -> int:
    folder.mkdir(parents=True)
    names = [f"{task}/{index}" for index in range(NUM_SAMPLES)]
    scores, problems, generations = [], {}, []
    for name in names:
        difficulty = rng.uniform(-0.3, 0.3)
        passes = [rng.random() < chance + difficulty for _ in range(NUM_REPEATS)]
        problems[name] = sum(passes) / NUM_REPEATS
        for repeat, passed in enumerate(passes):
            key = {"sample_id": name, "repeat": repeat}
            status = "ok" if passed else "wrong"
            scores.append({**key, "passed": passed, "status": status, "score": float(passed), "detail": {}})
            text = " ".join(rng.choices(WORDS, k=120))
            generations.append({**key, "completion": text, "finish_reason": "stop"})
    values = [score["score"] for score in scores]
    estimate = vars(score_share(values, [score["sample_id"] for score in scores]))
    metrics = {
        "schema_version": 1,
        "task": task,
        "domain": domain,
        "protocol": "chat",
        "n": NUM_SAMPLES,
        "num_repeats": NUM_REPEATS,
        "n_scored": len(scores),
        "n_missing": 0,
        "n_errors": 0,
        "n_unjudged": 0,
        "n_truncated": 0,
        "statuses": {},
        "is_complete": True,
        "incomplete_because": [],
        "is_subset": False,
        "headline": {"name": "accuracy", **estimate},
        "reported": [],
        "metrics": {"accuracy": estimate},
    }
    settings = {"task": task, "model": "recorded"}
    for name, content in (
        ("run.json", {"schema_version": 1, "settings": settings, "environments": []}),
        ("metrics.json", metrics),
        ("problems.json", {"schema_version": 1, "headline": "accuracy", "problems": problems}),
    ):
        (folder / name).write_text(json.dumps(content))
    for name, records in (("scores.jsonl", scores), ("generations.jsonl", generations)):
        (folder / name).write_text("".join(json.dumps(record) + "\n" for record in records))
    return len(scores)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    rng, num_scores = random.Random(0), 0
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        for index, arm in enumerate(ARMS):
            for number in range(NUM_TASKS):
                folder = top / "eval" / arm / f"task{number}"
                num_scores += write_run(folder, f"task{number}", DOMAINS[number % 3], 0.4 + index / 100, rng)
        command = [str(Path(sys.executable).with_name("dft")), "report", str(top / "eval"), "--baseline", "base"]
        started = time.perf_counter()
        subprocess.run([*command, "--out", str(top / "report")], check=True, stdout=subprocess.DEVNULL)
        wall_s = time.perf_counter() - started
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        html_bytes = (top / "report/report.html").stat().st_size
    memory_gib = used.ru_maxrss / 2**20
    result = {"scores": num_scores, "wall_s": wall_s, "cpu_s": used.ru_utime + used.ru_stime, "gib": memory_gib}
    print(json.dumps(result | {"html_bytes": html_bytes}))
    sys.exit(int(num_scores < 390_000 or wall_s > TIME_LIMIT_S or memory_gib > MEMORY_LIMIT_GIB))


if __name__ == "__main__":
    main()
