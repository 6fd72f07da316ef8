"""Many two-rank runs of a framework for the price of one import: each rank is forked from a warm process.

    python -m tests.integrations.forked_ranks jobs.json     # {"name": {training configuration}, ...}

What torchrun does is set the rendezvous variables of each rank; that is done here after the fork, so every run
still has processes of its own (DeepSpeed allows one run a process). The true torchrun relaunch is tested elsewhere.
The framework is the one of this environment; there is never more than one. Prints one JSON object: exit codes by name.
"""

from __future__ import annotations

import faulthandler
import importlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

from tests.integrations.cpu_fsdp import shard_on_cpus

NUM_RANKS = 2
JOB_TIMEOUT_S = 600  # the first run compiles DeepSpeed's CPU op
IS_SWIFT = importlib.util.find_spec("swift") is not None
# imported once, before the forks
WARM = ("deepspeed", "swift.pipelines") if IS_SWIFT else ("deepspeed", "llamafactory.train.tuner")


def run_all(jobs: dict[str, dict[str, Any]], file: Path) -> dict[str, tuple[int, Path]]:
    """Exit code and output folder of each job, run from one warm process; `file` is where the jobs are written."""
    file.write_text(json.dumps(jobs))
    command = [sys.executable, "-m", __name__, str(file)]
    root = Path(__file__).parents[2]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=1100, check=False)
    assert result.returncode == 0, result.stderr[-4000:]
    codes = json.loads(result.stdout.strip().splitlines()[-1])
    return {name: (codes[name], Path(settings["output_dir"])) for name, settings in jobs.items()}


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def train(settings: dict[str, Any]) -> None:
    """One run by the framework's own entry point."""
    if "fsdp" in settings:
        shard_on_cpus()
    if IS_SWIFT:
        from tests.integrations.swift_runs import run_in_process

        if "deepspeed" in settings:  # on CPUs accelerate leaves this to DeepSpeed, which counts one rank until then
            import deepspeed

            deepspeed.init_distributed("gloo")
        run_in_process(settings)
    else:
        from llamafactory.train.tuner import run_exp

        run_exp(settings)


def run_rank(rank: int, port: int, settings: dict[str, Any]) -> None:
    """Train as one rank in this freshly forked process; never returns."""
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(NUM_RANKS),
        LOCAL_WORLD_SIZE=str(NUM_RANKS),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    folder = Path(settings["output_dir"])
    folder.mkdir(parents=True, exist_ok=True)
    log = os.open(folder / f"rank{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    faulthandler.enable()
    faulthandler.dump_traceback_later(JOB_TIMEOUT_S, exit=True)  # a hanging rank says where, and ends
    code = 1
    try:
        train(settings)
        code = 0
    except BaseException:  # noqa: BLE001 - a fork must not fall back into its parent's code
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run_job(settings: dict[str, Any]) -> int:
    """Fork the ranks and wait; when one fails the other is ended too."""
    port = free_port()
    ranks = set()
    for rank in range(NUM_RANKS):
        process = os.fork()
        if process == 0:
            run_rank(rank, port, settings)
        ranks.add(process)
    code = 0
    while ranks:
        process, status = os.wait()
        ranks.discard(process)
        if status:
            code = 1
            for other in ranks:
                os.kill(other, signal.SIGKILL)
    return code


def main() -> None:
    if IS_SWIFT:
        importlib.import_module("tests.integrations.swift_runs")  # sets the private caches that swift's import reads
    for name in WARM:
        importlib.import_module(name)
    from deepspeed.ops.op_builder.cpu import ShareMemCommBuilder

    ShareMemCommBuilder().load(verbose=False)  # compiled once an environment, for a minute or two: not by racing ranks
    jobs = json.loads(Path(sys.argv[1]).read_text())
    sys.stdout.write("\n" + json.dumps({name: run_job(settings) for name, settings in jobs.items()}))


if __name__ == "__main__":
    main()
