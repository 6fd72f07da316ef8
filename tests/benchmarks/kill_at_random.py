"""What SIGKILL leaves of `dft eval score`: the command, a worker or the fork server, at random moments.

    python tests/benchmarks/kill_at_random.py --data $DFT_DATA_DIR

The programs being scored do not end by themselves and have a daemon beside them. Ten seconds after each kill no
process, folder, control group or mount of what died may be left; exit code 1 where one is. Run it as root: for
`bubblewrap-as-user` a worker becomes an ordinary user.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from dft_eval.languages.base import binary
from dft_eval.sandbox.bubblewrap import Bubblewrap
from dft_eval.sandbox.program import Command
from tests.eval.processes import become_user, processes_with
from tests.eval.sandbox.leftovers import left_of, processes_of_users, wait_until_empty

AS_USER = "bubblewrap-as-user"
BACKENDS = ("bubblewrap", "landlock", AS_USER)
TARGETS = ("command", "worker", "fork server")
USER_ID = 40_000 + os.getpid() % 10_000
NUM_ANSWERS = 8
START_LIMIT_S = 180.0
PROGRAMS = {
    "multipl_e/sh": ("HumanEval_23_strlen", "    setsid sleep 1000 &\n    sleep 1000\n}\n"),
    "multipl_e/js": (
        "HumanEval_23_strlen",
        "    require('child_process').spawn('sleep', ['1000'], {detached: true});\n    while (true);\n}\n",
    ),
    "humaneval": ("HumanEval/23", "    import os, time\n    os.fork() or os.setsid()\n    time.sleep(1000)\n"),
}


class Scoring:
    """A run of `dft eval score` on programs that do not end by themselves.

    Args:
        task: The benchmark.
        backend: Where its programs run.
        data: The benchmarks' data.
        folder: For its files.
    """

    def __init__(self, task: str, backend: str, data: Path, folder: Path) -> None:
        self._mark = ("DFT_KILLED_AT_RANDOM", f"{os.getpid()}-{folder.name}")
        sample_id, completion = PROGRAMS[task]
        samples = folder / "samples.jsonl"
        records = ({"sample_id": sample_id, "repeat": i, "completion": completion} for i in range(NUM_ANSWERS))
        samples.write_text("".join(json.dumps(record) + "\n" for record in records))
        dft = str(Path(sys.executable).with_name("dft"))
        environment = {"DFT_SANDBOX": backend, "DFT_DATA_DIR": str(data), "HOME": str(folder)}
        self.process = subprocess.Popen(
            (dft, "eval", "score", "--task", task, "--samples", str(samples), "--out", str(folder / "run")),
            env=dict(os.environ) | environment | dict([self._mark]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def processes(self) -> list[int]:
        """All processes of the run outside its sandboxes."""
        return [int(pid) for pid in processes_with("=".join(self._mark))]

    def fork_servers(self) -> list[int]:
        """Ids of the fork server, once it is there."""
        return [pid for pid in _children(self.process.pid) if b"forkserver" in _read(pid, "cmdline")]

    def workers(self) -> list[int]:
        """Ids of the workers, once they are there."""
        return [worker for server in self.fork_servers() for worker in _children(server)]

    def left(self, dead: list[int]) -> list[str]:
        """Traces of processes that have died, or of the whole run where the command is one of them."""
        found = [trace for process in dead for trace in left_of(process)]
        found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "dft-sandbox" in line]
        if self.process.pid in dead:
            found += [f"{pid} {_read(pid, 'cmdline')!r}" for pid in self.processes()]
        return found

    def wait_for(self, find: Callable[[], list[int]]) -> list[int]:
        """What a question finds as soon as it finds anything."""
        deadline = time.monotonic() + START_LIMIT_S
        while not (found := find()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"`dft eval score` did not come as far: {find.__name__}, {self.process.poll()}")
            time.sleep(0.02)
        return found


def main() -> None:
    """Kill, wait, look, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the benchmarks' data")
    parser.add_argument(
        "--backend", nargs="+", choices=BACKENDS, default=BACKENDS if os.geteuid() == 0 else BACKENDS[:1]
    )
    parser.add_argument("--moments", type=int, default=10, help="kills of each backend")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one JSON object, nothing else")
    options = parser.parse_args()
    choose = random.Random(options.seed)
    rows = []
    for backend in options.backend:
        for index in range(options.moments):
            target, task = TARGETS[index % len(TARGETS)], choose.choice(sorted(PROGRAMS))
            moment = choose.uniform(0, 12 if target == "command" else 4)
            rows.append({"backend": backend, "task": task, "target": target, "moment_s": round(moment, 2)})
            if backend == AS_USER:
                rows[-1] |= {"target": "worker", "task": "sleep"} | _killed_user(moment)
            else:
                with _folder() as folder:
                    rows[-1] |= _killed(Scoring(task, backend, options.data, folder), target, moment)
            if not options.json:
                sys.stdout.write(" | ".join(map(str, rows[-1].values())) + "\n")
                sys.stdout.flush()
    if options.json:
        sys.stdout.write(json.dumps({"kills": rows}) + "\n")
    if any(row["left"] for row in rows):
        raise SystemExit(1)


def _killed_user(moment_s: float) -> dict[str, object]:
    """Kill a worker of an ordinary user so long after its first program was started."""
    worker = os.fork()
    if worker == 0:
        try:
            become_user(USER_ID)
            source = "import os, time\nos.fork() or os.setsid()\ntime.sleep(0.3)"
            while True:
                Bubblewrap().run(Command((binary("python3"), "-I", "-c", source), may_write=True))
        finally:
            os._exit(1)
    while len(processes_of_users(USER_ID, USER_ID)) < 2:
        time.sleep(0.005)
    time.sleep(moment_s)
    num_programs = len(processes_of_users(USER_ID, USER_ID)) - 1
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)
    start = time.monotonic()
    left = wait_until_empty(lambda: processes_of_users(USER_ID, USER_ID))
    return {"at_work": num_programs, "cleared_after_s": round(time.monotonic() - start, 2), "left": left}


def _killed(scoring: Scoring, target: str, moment_s: float) -> dict[str, object]:
    """Kill the target so long after it came up; the run as a whole is killed afterwards."""
    if target == "command":
        time.sleep(moment_s)
        dead = [scoring.process.pid, *scoring.workers()]
        pid = scoring.process.pid
    else:
        dead = scoring.wait_for(scoring.workers)
        time.sleep(moment_s)
        pid = dead[0] if target == "worker" else scoring.fork_servers()[0]
        dead = dead[:1] if target == "worker" else [pid, *scoring.workers()]
    num_programs = sum(len(left_of(process)) > 0 for process in dead)
    os.kill(pid, signal.SIGKILL)
    start = time.monotonic()
    if pid == scoring.process.pid:
        scoring.process.wait()
    left = wait_until_empty(lambda: scoring.left(dead))
    seconds = time.monotonic() - start
    if pid != scoring.process.pid:
        dead = [scoring.process.pid, *scoring.processes()]
        scoring.process.kill()
        scoring.process.wait()
        left += wait_until_empty(lambda: scoring.left(dead))
    return {"at_work": num_programs, "cleared_after_s": round(seconds, 2), "left": left}


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="killed-at-random-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _children(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").glob("*")
    return [int(child) for thread in threads for child in _read(pid, f"task/{thread.name}/children").split()]


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""  # it ended meanwhile


if __name__ == "__main__":
    main()
