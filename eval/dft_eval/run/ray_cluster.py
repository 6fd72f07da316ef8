"""Score on a Ray cluster: the same records, more machines."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dft_eval.errors import ConfigError, MissingPrerequisite
from dft_eval.records.schema import Answer, Score
from dft_eval.run.fetch import verify_folder
from dft_eval.run.score_answer import infra_error, score_answer
from dft_eval.tasks.base import Task

_POLL_S = 1.0
_checked: set[str] = set()  # of a worker process: benchmarks it may score


@dataclass(frozen=True)
class RayCluster:
    """A Ray cluster whose machines have this package, the data at the same place, and the same tools.

    Attributes:
        address: Of a running cluster; None takes `RAY_ADDRESS`, or starts Ray on this machine.
        timeout_s: After which an answer counts as hung; far above any limit a task sets itself.
        num_cpus: Cores of a Ray started here; None takes all.
    """

    address: str | None = None
    timeout_s: float = 3600.0
    num_cpus: int | None = None

    def score(self, task: Task, answers: Sequence[Answer]) -> Iterator[Score]:
        """Yield one score for each answer, as they come."""
        if not answers:
            return
        try:
            import ray
        except ImportError as error:
            raise MissingPrerequisite("--executor ray needs Ray; run: pip install ray") from error
        is_ours = not ray.is_initialized()
        if is_ours:
            ray.init(
                address=self.address,
                num_cpus=self.num_cpus if self.address is None else None,
                include_dashboard=None if self.address else False,
                logging_level=logging.WARNING,
                log_to_driver=False,
            )
        try:
            yield from self._score(ray, task, answers)
        finally:
            if is_ours:
                ray.shutdown()

    def _score(self, ray: Any, task: Task, answers: Sequence[Answer]) -> Iterator[Score]:
        remote = ray.remote(num_cpus=1, max_retries=0)(_score_there)
        task_ref, expected = ray.put(task), task.fingerprint()
        width = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        waiting = iter(answers)
        running: dict[Any, tuple[Answer, float]] = {}
        while True:
            while len(running) < width and (answer := next(waiting, None)) is not None:
                running[remote.remote(task_ref, expected, answer)] = (answer, time.monotonic())
            if not running:
                return
            done, _ = ray.wait(list(running), num_returns=1, timeout=_POLL_S)
            for reference in done:
                answer, _started = running.pop(reference)
                try:
                    result = ray.get(reference)
                except ray.exceptions.RayError as error:
                    yield infra_error(answer, f"the worker was lost: {type(error).__name__}: {error}")
                    continue
                if isinstance(result, str):
                    raise ConfigError(result)
                yield result
            now = time.monotonic()
            for reference in [ref for ref, (_, started) in running.items() if now - started > self.timeout_s]:
                answer, _started = running.pop(reference)
                ray.cancel(reference, force=True)
                yield infra_error(answer, f"no score within {self.timeout_s:g} s; the worker was killed")


def _score_there(task: Task, expected: dict[str, str], answer: Answer) -> Score | str:
    """Return a score; or why this machine may give none: it has other data or other tools than the one that asks."""
    if task.name not in _checked:
        try:
            verify_folder(task.name, task.data_dir, task.data_files)
        except MissingPrerequisite as error:
            return f"{platform.node()}: {error}"
        found = task.fingerprint()
        if found != expected:
            odd = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
            return f"{platform.node()} differs in {', '.join(odd)}; install the same tools on all machines."
        _checked.add(task.name)
    return score_answer(task, answer)
