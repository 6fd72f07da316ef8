"""Progress of a study: bars on a terminal, a line a job elsewhere, with an estimate of the rest."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import fmean
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from dft_plugin.study.job import Done, Job


class StudyProgress:
    """Shows every job.

    Args:
        jobs: All of the study.
        num_jobs: Processes at once.
        console: Where.
    """

    def __init__(self, jobs: Sequence[Job], num_jobs: int, console: Console) -> None:
        self._jobs, self._num_jobs, self._console = jobs, num_jobs, console
        self._seconds: dict[str, list[float]] = {}
        self._open = {job.name: job for job in jobs}
        self._started: dict[str, float] = {}
        self._bars: dict[str, TaskID] = {}
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[rest]}"),
        )
        self._drawn = Progress(*columns, console=console, disable=not console.is_terminal)
        self._all = self._drawn.add_task("study", total=len(jobs), rest="")

    def __enter__(self) -> StudyProgress:
        self._drawn.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drawn.stop()

    def started(self, job: Job) -> None:
        """Show its bar, or say so."""
        self._started[job.name] = time.monotonic()
        if self._console.is_terminal:
            self._bars[job.name] = self._drawn.add_task(escape(job.name), total=job.num_steps, rest="")
        else:
            self._say(f"started {job.name}: {job.shown_command()}")

    def advanced(self, job: Job) -> None:
        """Move its bar."""
        if job.name in self._bars:
            self._drawn.update(self._bars[job.name], completed=job.steps_done())
            self._drawn.update(self._all, rest=self._estimate())

    def ended(self, job: Job, done: Done | None, failure: str) -> None:
        """Take away its bar, or say how it went."""
        self._open.pop(job.name, None)
        if (bar := self._bars.pop(job.name, None)) is not None:
            self._drawn.remove_task(bar)
        if done is not None and not done.is_resumed:
            self._seconds.setdefault(job.kind, []).append(done.wall_s)
        self._drawn.update(self._all, completed=len(self._jobs) - len(self._open), rest=self._estimate())
        is_new = self._started.pop(job.name, None) is not None
        if done is None:
            self._console.print(
                f"[red]failed[/] {escape(job.name)}: {escape(failure)}", soft_wrap=True, highlight=False
            )
        elif is_new and not self._console.is_terminal:
            self._say(f"done {job.name} in {done.wall_s:.0f} s")
        elif not self._console.is_terminal:
            self._say(f"already done: {job.name}")

    def _say(self, text: str) -> None:
        counted = f"[{len(self._jobs) - len(self._open)}/{len(self._jobs)}]"
        rest = self._estimate()
        self._console.print(escape(f"{counted} {text}{'; ' if rest else ''}{rest}"), soft_wrap=True, highlight=False)

    def _estimate(self) -> str:
        """The rest of the time, where a job of each kind that is left was measured; the report takes seconds."""
        kinds = {job.kind for job in self._open.values()} - {"report"}
        if not kinds or not kinds <= self._seconds.keys():
            return ""
        now = time.monotonic()
        seconds = [
            max(0.0, fmean(self._seconds[job.kind]) - (now - self._started.get(job.name, now)))
            for job in self._open.values()
            if job.kind in kinds
        ]
        minutes = sum(seconds) / min(self._num_jobs, len(seconds)) / 60
        return f"about {minutes:.0f} min left" if minutes >= 1 else "less than a minute left"
