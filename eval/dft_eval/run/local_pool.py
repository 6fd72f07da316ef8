"""Score in processes of this machine; a worker may die or hang without harm to the others."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import select
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker

from pebble import ProcessExpired, ProcessPool

from dft_eval.records.schema import Answer, Score
from dft_eval.run.score_answer import infra_error, score_answer
from dft_eval.tasks.base import Task

_PR_SET_PDEATHSIG = 1
_tasks: list[Task] = []  # of a worker process: one entry


@dataclass(frozen=True)
class LocalPool:
    """A pool of worker processes.

    Workers come from a fork server: a fresh process, so that neither a loaded model nor its threads are copied.

    Attributes:
        num_workers: Processes at once.
        timeout_s: After which a worker counts as hung and is killed; far above any limit a task sets itself.
    """

    num_workers: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    timeout_s: float = 3600.0

    def score(self, task: Task, answers: Sequence[Answer]) -> Iterator[Score]:
        """Yield one score for each answer, as they come."""
        if not answers:
            return
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["dft_eval.run.fork_server", __name__])
        num_workers = min(self.num_workers, len(answers))
        pool = ProcessPool(num_workers, initializer=_start_worker, initargs=(task, os.getpid()), context=context)
        waiting = iter(answers)
        running: dict[Future[Score], Answer] = {}
        try:
            with _interrupts_held():  # the first answer starts the processes
                first = next(waiting)
                running[pool.submit(_score, self.timeout_s, first)] = first
            while True:
                # a short queue: thousands of answers need not be in the pipe at once
                while len(running) < 2 * self.num_workers and (answer := next(waiting, None)) is not None:
                    running[pool.submit(_score, self.timeout_s, answer)] = answer
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield self._result(future, running.pop(future))
            pool.close()  # type: ignore[no-untyped-call]
        finally:
            pool.stop()  # type: ignore[no-untyped-call]
            pool.join()

    def _result(self, future: Future[Score], answer: Answer) -> Score:
        try:
            return future.result()
        except FutureTimeoutError:
            return infra_error(answer, f"no score within {self.timeout_s:g} s; the worker was killed")
        except ProcessExpired as error:
            return infra_error(answer, f"the worker died, exit code {error.exitcode}")


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold an interrupt back until the block ends; threads and processes begun in it hold it until they say otherwise.

    A terminal interrupts every process of its group, also one that is still importing what its handler needs.
    """
    resource_tracker.ensure_running()  # on its first start it lets interrupts through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(task: Task, main_process: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the main process's to handle
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    # the fork server lives as long as a worker holds it, so its end says nothing about the main process
    threading.Thread(target=_end_with, args=(main_process,), daemon=True, name="end-with-main").start()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:  # it had ended already
        os._exit(1)
    _tasks[:] = [task]


def _end_with(main_process: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # gone already
        select.select([os.pidfd_open(main_process)], [], [])
    os.kill(os.getpid(), signal.SIGKILL)


def _score(answer: Answer) -> Score:
    return score_answer(_tasks[0], answer)
