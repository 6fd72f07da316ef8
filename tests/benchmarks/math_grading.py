"""What grading mathematics costs: every problem of the five benchmarks with 16 answers, right ones and wrong ones.

Prints one JSON object; exit code 1 where it took more CPU than allowed. The answers are the same each time.
"""

import argparse
import json
import os
import re
import resource
import sys
import time
from collections import Counter
from pathlib import Path

from dft_eval.tasks.catalog import TASKS
from dft_eval.tasks.math import grader
from dft_eval.tasks.math.answers import MATH

CPU_LIMIT_S = 240.0
POWER_OF_TEN = re.compile(r"(.*) \\times 10\^\{(-?\d+)\}")


def spaced(gold: str) -> str:
    return re.sub(r"([+=,])", r" \1 ", gold)


def respelled(gold: str) -> str:
    """The same value in other words."""
    if re.fullmatch(r"-?\d+", gold):
        return f"\\frac{{{2 * int(gold)}}}{{2}}"
    if match := POWER_OF_TEN.fullmatch(gold):
        return f"{match[1]} \\cdot 10^{{{match[2]}}}"
    return gold.replace("\\frac", "\\dfrac")


def variants(gold: str, other: str) -> tuple[str, ...]:
    """16 responses to a problem; `other` is the reference of the next one."""
    return (
        f"\\boxed{{{gold}}}",
        f"So \\boxed{{{gold}}}.",
        f"$$\\boxed{{{gold}}}$$",
        "Let us see. " * 300 + f"Therefore the answer is $\\boxed{{{gold}}}$.",
        f"At first \\boxed{{0}}, but then \\boxed{{{gold}}}.",
        f"\\boxed{{{spaced(gold)}}}",
        f"\\boxed{{{respelled(gold)}}}",
        f"\\boxed{{\\left({gold}\\right)}}",
        f"\\boxed{{{gold}\\text{{ units}}}}",
        f"\\boxed{{{gold}+1}}",
        f"\\boxed{{-\\frac{{1}}{{7}}}} because {gold} is too large",
        f"\\boxed{{{other}}}",
        f"\\boxed{{{gold}",
        f"The answer is ${gold}$.",
        f"The answer is {other}",
        "I cannot say.",
    )


def used_cpu_s() -> float:
    """Of this process and of all it started and waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("DFT_DATA_DIR"), help="default: DFT_DATA_DIR")
    parser.add_argument("--rules", choices=["math_verify", "qwen_compat"], default="math_verify")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("--data or DFT_DATA_DIR is needed: the folder with the benchmarks' files")
    protocol = "qwen-boxed" if arguments.rules == "math_verify" else "qwen-compat"
    golds = [list(TASKS[kind.name](arguments.data, protocol).golds.values()) for kind in MATH]
    pairs = [
        (gold, response)
        for file in golds
        for gold, other in zip(file, file[1:] + file[:1], strict=True)
        for response in variants(gold, other)
    ]
    before, started = used_cpu_s(), time.perf_counter()
    statuses = Counter(grader.grade_response(*pair, arguments.rules)["status"] for pair in pairs)
    grader.close_graders()
    cpu_s = used_cpu_s() - before
    result = {
        "answers": len(pairs),
        "rules": arguments.rules,
        "cpu_seconds": round(cpu_s, 1),
        "wall_seconds": round(time.perf_counter() - started, 1),
        "cpu_ms_per_answer": round(cpu_s / len(pairs) * 1e3, 2),
        "statuses": dict(sorted(statuses.items())),
    }
    print(json.dumps(result))
    sys.exit(cpu_s > CPU_LIMIT_S)


if __name__ == "__main__":
    main()
