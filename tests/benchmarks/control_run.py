"""The price of the control run: CPU and clock seconds of scoring recorded answers with it, over those without it.

    python tests/benchmarks/control_run.py --data $DFT_DATA_DIR --language js cpp

A program that passes is run (and compiled) a second time, so the ratio is one and the share of answers that pass, less
what both runs share.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from dft_eval.sandbox.choose import open_sandbox
from dft_eval.tasks.catalog import TASKS
from tests.eval.tasks.test_replay import LANGUAGES, recorded_answers


def main() -> None:
    """Score each answer both ways, one after the other, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the benchmarks' data, with the recorded answers")
    parser.add_argument("--language", nargs="+", choices=LANGUAGES, default=["js", "cpp"])
    parser.add_argument("--programs", type=int, default=40, help="of each language")
    parser.add_argument("--json", action="store_true", help="one JSON object, nothing else")
    options = parser.parse_args()
    found = {language: measure(options.data, language, options.programs) for language in options.language}
    if options.json:
        sys.stdout.write(json.dumps({"sandbox": open_sandbox().name} | found) + "\n")
        return
    for language, figures in found.items():
        sys.stdout.write(f"{language}: " + ", ".join(f"{name} {value:.2f}" for name, value in figures.items()) + "\n")


def measure(data: Path, language: str, num_programs: int) -> dict[str, float]:
    """Seconds with and without, their ratios, and the share of answers that pass."""
    controlled = TASKS[f"multipl_e/{language}"]
    plain = type("Plain", (controlled,), {"_controlled": lambda self, program, tests, strict: strict})
    tasks = {"with": controlled(data, "strict"), "without": plain(data, "strict")}
    answers = recorded_answers(data, language)
    answers = answers[:: max(1, len(answers) // num_programs)][:num_programs]
    tasks["with"].score(answers[0])  # what is made once: a sandbox, precompiled headers
    cpu_s, clock_s = dict.fromkeys(tasks, 0.0), dict.fromkeys(tasks, 0.0)
    num_passed = 0
    for answer in answers:
        for name, task in tasks.items():
            used, started = used_cpu_s(), time.monotonic()
            score = task.score(answer)
            cpu_s[name] += used_cpu_s() - used
            clock_s[name] += time.monotonic() - started
        num_passed += bool(score.passed)
    return {
        "cpu_s with": cpu_s["with"],
        "cpu_s without": cpu_s["without"],
        "cpu ratio": cpu_s["with"] / cpu_s["without"],
        "clock ratio": clock_s["with"] / clock_s["without"],
        "share passed": num_passed / len(answers),
    }


def used_cpu_s() -> float:
    """CPU seconds of this process and of those it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


if __name__ == "__main__":
    main()
