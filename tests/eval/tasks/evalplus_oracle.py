"""EvalPlus' own evaluator, in a process of its own, on some of its problems."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def evalplus_verdicts(
    problems: Mapping[str, Mapping[str, Any]], solutions: Mapping[str, str], folder: Path
) -> dict[str, dict[str, bool]]:
    """Passes under the base tests, and under these and the plus tests, by problem.

    Args:
        problems: HumanEval+'s records by id; only those with a solution are evaluated.
        solutions: Whole programs.
        folder: For its files.
    """
    data, samples = folder / "problems.jsonl.gz", folder / "samples.jsonl"
    with gzip.open(data, "wt") as file:
        file.writelines(json.dumps(dict(problems[name])) + "\n" for name in solutions)
    samples.write_text("".join(json.dumps({"task_id": k, "solution": v}) + "\n" for k, v in solutions.items()))
    subprocess.run(
        (sys.executable, "-m", "evalplus.evaluate", "--dataset", "humaneval", "--samples", str(samples), "--parallel",
         "1"),
        check=True,
        capture_output=True,
        env={"PATH": "/usr/bin", "HOME": str(folder), "HUMANEVAL_OVERRIDE_PATH": str(data)},
    )  # fmt: skip
    told = json.loads((folder / "samples_eval_results.json").read_text())["eval"]
    found = {}
    for name in solutions:
        (entry,) = told[name]
        base, plus = (entry[f"{part}_status"] == "pass" for part in ("base", "plus"))
        found[name] = {"base": base, "plus": base and plus}
    return found
