"""Run jobs, several at a time, each after the ones it needs; a failed one does not stop the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Protocol

from dft_plugin.study.job import Done, Job, JobFailedError
from dft_plugin.study.processes import Children

_POLL_S = 0.5


class Progress(Protocol):
    """A place to show how far a study is."""

    def started(self, job: Job) -> None:
        """A job was started."""

    def advanced(self, job: Job) -> None:
        """A job may have come further."""

    def ended(self, job: Job, done: Done | None, failure: str) -> None:
        """A job is done (now, or in an earlier call), or failed for a reason."""


class Place(Protocol):
    """A place where jobs run."""

    def submit(self, pool: Executor, job: Job, before: Mapping[str, Done]) -> Future[Done]:
        """Start a job; its future raises JobFailedError."""

    def end(self) -> None:
        """End what still runs."""


@dataclass
class Here:
    """This machine.

    Attributes:
        children: The jobs' processes.
    """

    children: Children = field(default_factory=Children)

    def submit(self, pool: Executor, job: Job, before: Mapping[str, Done]) -> Future[Done]:
        """Run the job's command as a child process, watched by a thread."""
        return pool.submit(self.children.run, job, before)

    def end(self) -> None:
        """End the children."""
        self.children.end()


@dataclass
class Outcome:
    """Jobs of a study that are done, and those that failed.

    Attributes:
        done: By name.
        failures: Why, by name; jobs that were not tried because of another one among them.
    """

    done: dict[str, Done] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def run_jobs(jobs: Sequence[Job], *, place: Place, num_jobs: int, progress: Progress) -> Outcome:
    """Run `jobs`, at most `num_jobs` at once; those finished earlier with the same settings are taken over.

    Args:
        jobs: Each after those it needs.
        place: Where.
        num_jobs: Processes at once.
        progress: Told of every step.

    Raises:
        ConflictError: a job was finished earlier with other settings; what runs is ended.
    """
    outcome = Outcome()
    waiting, running = list(jobs), dict[Future[Done], Job]()
    with ThreadPoolExecutor(num_jobs) as pool:
        try:
            while waiting or running:
                for job in [job for job in waiting if _is_ready(job, outcome)]:
                    if not _settle(job, outcome, progress):
                        if len(running) == num_jobs:
                            continue
                        progress.started(job)
                        running[place.submit(pool, job, outcome.done)] = job
                    waiting.remove(job)
                ended, _ = wait(running, timeout=_POLL_S, return_when=FIRST_COMPLETED)
                for job in running.values():
                    progress.advanced(job)
                for future in ended:
                    _collect(running.pop(future), future, outcome, progress)
        finally:
            place.end()
    return outcome


def _is_ready(job: Job, outcome: Outcome) -> bool:
    return all(name in outcome.done or name in outcome.failures for name in job.after)


def _settle(job: Job, outcome: Outcome, progress: Progress) -> bool:
    """Take over a finished job, or give up one that needs a failed one; False where it has to be run."""
    lost = [name for name in job.after if name in outcome.failures]
    if lost and job.needs_all:
        outcome.failures[job.name] = f"not tried, since {lost[0]} failed"
        progress.ended(job, None, outcome.failures[job.name])
        return True
    done = job.load(outcome.done)
    if done is None:
        return False
    outcome.done[job.name] = done
    progress.ended(job, done, "")
    return True


def _collect(job: Job, future: Future[Done], outcome: Outcome, progress: Progress) -> None:
    try:
        outcome.done[job.name] = future.result()
    except (JobFailedError, OSError) as error:  # a full disk, say
        outcome.failures[job.name] = str(error)
        progress.ended(job, None, str(error))
    else:
        progress.ended(job, outcome.done[job.name], "")
