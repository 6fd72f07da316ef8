"""Jobs on a Ray cluster: its machines see the study's folder, the data and the environments at the same places."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from dft_plugin.errors import MissingPrerequisiteError
from dft_plugin.study.job import Done, Job, JobFailedError
from dft_plugin.study.processes import Children


class RayPlace:
    """A Ray cluster; a job takes a machine's GPUs, or a core where the cluster has none.

    Args:
        address: Of a running cluster; None takes `RAY_ADDRESS`, or starts Ray on this machine.
    """

    def __init__(self, address: str | None) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingPrerequisiteError("--executor ray needs Ray; run: pip install ray") from error
        self._ray: Any = ray
        is_new = address is None and "RAY_ADDRESS" not in os.environ
        ray.init(
            address=address,
            include_dashboard=False if is_new else None,
            logging_level=logging.WARNING,
            log_to_driver=False,
        )
        num_gpus = max((node["Resources"].get("GPU", 0) for node in ray.nodes()), default=0)
        self._remote = ray.remote(num_cpus=1, num_gpus=num_gpus, max_retries=0)(_run_there)

    def submit(self, pool: Executor, job: Job, before: Mapping[str, Done]) -> Future[Done]:
        """Run the job on a machine that is free, watched by a thread."""
        return pool.submit(self._wait_for, job, dict(before))

    def end(self) -> None:
        """Let go of the cluster; jobs that run are ended."""
        if self._ray.is_initialized():
            self._ray.shutdown()

    def _wait_for(self, job: Job, before: Mapping[str, Done]) -> Done:
        try:
            result: Done | str = self._ray.get(self._remote.remote(str(Path.cwd()), job, before))
        except self._ray.exceptions.RayError as error:
            raise JobFailedError(f"{job.name}: its machine was lost: {type(error).__name__}: {error}") from error
        if isinstance(result, str):
            raise JobFailedError(result)
        return result


def _run_there(folder: str, job: Job, before: Mapping[str, Done]) -> Done | str:
    """The job's result, or why it failed."""
    os.chdir(folder)
    children = Children()
    try:
        return children.run(job, before)
    except JobFailedError as error:
        return str(error)
    finally:
        children.end()
