"""A job's command as a child process: its variables, its end, and what a killed study left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from dft_plugin.study.job import Done, Job, JobFailedError

_MARKER = "DFT_STUDY_JOB"
_CLEARED = ("FORCE_TORCHRUN", "NPROC_PER_NODE", "NNODES", "NODE_RANK", "DFT_LOSS_CONFIG", "ALLOW_EXTRA_ARGS")
_NUM_TAIL_LINES = 25
_TERMINATION_S = 5.0


class Children:
    """The processes of this study's jobs; safe to use from several threads."""

    def __init__(self) -> None:
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        self._is_closed = False

    def run(self, job: Job, before: Mapping[str, Done]) -> Done:
        """Run a job to its end and record it.

        Args:
            job: What to do.
            before: The jobs before it.

        Raises:
            JobFailedError: it failed; the message has the end of its log.
        """
        started = time.monotonic()
        fingerprint = job.fingerprint(before)
        job.log_file.parent.mkdir(parents=True, exist_ok=True)
        is_resumed = job.begin(fingerprint)
        with job.log_file.open("wb") as log:
            process = self._start(job, log.fileno())
        _, status, usage = os.wait4(process.pid, 0)
        with self._lock:
            self._running.pop(process.pid, None)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            tail = job.log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-_NUM_TAIL_LINES:]
            raise JobFailedError(
                f"{job.name} ended with exit code {process.returncode}. The end of {job.log_file}:\n"
                + "\n".join(tail)
                + f"\nTo repeat it alone: {job.shown_command()}"
            )
        job.finish()
        done = Done(fingerprint, time.monotonic() - started, usage.ru_utime + usage.ru_stime, is_resumed)
        job.save(done)
        return done

    def end(self) -> None:
        """End what still runs, children of children included; nothing is started afterwards."""
        with self._lock:
            self._is_closed = True
            running = list(self._running)
        for pid in running:
            _signal_group(pid, signal.SIGTERM)
        deadline = time.monotonic() + _TERMINATION_S
        while running and time.monotonic() < deadline:
            with self._lock:
                running = list(self._running)
            time.sleep(0.05)
        for pid in running:
            _signal_group(pid, signal.SIGKILL)

    def _start(self, job: Job, log: int) -> subprocess.Popen[bytes]:
        command = job.command()
        with self._lock:
            if self._is_closed:
                raise JobFailedError(f"{job.name} was not started: the study is ending")
            try:
                process = subprocess.Popen(
                    command,
                    env=_environment(job, Path(command[0]).parent),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C reaches us alone; we end the whole group
                )
            except OSError as error:
                raise JobFailedError(f"{job.name}: {command[0]} cannot be started: {error.strerror}") from error
            self._running[process.pid] = process
        return process


def end_leftovers(folder: Path, job: str = "") -> int:
    """Kill what an earlier command of this study left running; it was killed itself and could not.

    Args:
        folder: The study's.
        job: Only this job's processes; empty for all.

    Returns:
        How many processes there were.
    """
    import psutil

    wanted = _mark(folder, job) if job else f"{folder.resolve()}:"
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(_MARKER, "").startswith(wanted):
                process.kill()
                found.append(process)
    psutil.wait_procs(found, timeout=_TERMINATION_S)
    return len(found)


def _mark(folder: Path, job: str) -> str:
    return f"{folder.resolve()}:{job}:"


def _environment(job: Job, programs: Path) -> dict[str, str]:
    """Our variables without those that change how a framework trains, with the job's own."""
    given = {
        **{key: value for key, value in os.environ.items() if key not in _CLEARED},
        "PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        _MARKER: _mark(job.folder, job.name),
        **job.env,
    }
    return {key: value for key, value in given.items() if value is not None}


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)
