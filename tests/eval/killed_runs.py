"""Runs that are killed again and again, for the price of one import: each attempt is forked from a warm process.

    python -m tests.eval.killed_runs plans.json     # [{"command": [...], "folder": ..., "kills": [file, ...]}, ...]

`command` is what follows `dft`. An attempt gets SIGKILL after its file in the folder has grown; the last one is left
alone. Prints, for each run, how many lines the file held when a killed attempt started and ended, and the exit code.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

ATTEMPT_LIMIT_S = 120.0
LONGEST_DELAY_S = {"generations.jsonl": 0.1, "scores.jsonl": 0.003}  # answers take longer than verdicts


def run_plans(plans: list[dict[str, object]], file: Path) -> list[list[list[int]]]:
    """The kills of each run, as they came; a run that does not end well is a failure.

    Args:
        plans: As above.
        file: Where they are written.
    """
    file.write_text(json.dumps(plans))
    runner = [sys.executable, "-m", __name__, str(file)]
    root = Path(__file__).parents[2]
    done = subprocess.run(runner, cwd=root, capture_output=True, text=True, check=True)
    results = json.loads(done.stdout.splitlines()[-1])
    for plan, result in zip(plans, results, strict=True):
        assert result["exit_code"] == 0, Path(str(plan["folder"])).with_suffix(".log").read_text()[-4000:]
    return [result["kills"] for result in results]


def count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def start(command: list[str], log: Path) -> int:
    """The process id of `dft` with these arguments; what it prints goes to a file."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        from dft_plugin.cli import main as dft

        sys.argv = ["dft", *command]
        dft()
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:  # noqa: BLE001 - a fork must not fall back into its parent's code
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def kill_when_grown(process: int, file: Path, delay_s: float) -> tuple[int, int]:
    """Lines of the file when the process started and when it was dead."""
    had, deadline = count_lines(file), time.monotonic() + ATTEMPT_LIMIT_S
    while count_lines(file) <= had and time.monotonic() < deadline:
        time.sleep(0.0005)
    time.sleep(delay_s)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return had, count_lines(file)


def run_plan(command: list[str], folder: Path, names: list[str]) -> dict[str, object]:
    log, rng = folder.with_suffix(".log"), random.Random(0)
    kills = []
    for name in names:
        file = folder / name
        kills.append(kill_when_grown(start(command, log), file, rng.uniform(0, LONGEST_DELAY_S[file.name])))
    _, status = os.waitpid(start(command, log), 0)
    return {"kills": kills, "exit_code": os.waitstatus_to_exitcode(status)}


def main() -> None:
    import transformers.models.qwen2.modeling_qwen2  # noqa: F401 - once, before the forks

    plans = json.loads(Path(sys.argv[1]).read_text())
    results = [run_plan(plan["command"], Path(plan["folder"]), plan["kills"]) for plan in plans]
    sys.stdout.write("\n" + json.dumps(results))


if __name__ == "__main__":
    main()
