"""From a benchmark's samples to recorded answers; what is recorded is not asked again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tqdm import tqdm

from dft_eval.backends.base import Backend, SamplingParams, make_requests
from dft_eval.errors import BackendError
from dft_eval.records.schema import Sample
from dft_eval.records.store import RunFolder


def generate_answers(
    task_name: str,
    samples: Sequence[Sample],
    folder: RunFolder,
    get_backend: Callable[[], Backend],
    sampling: SamplingParams,
) -> None:
    """Ask for every answer that `generations.jsonl` does not hold yet.

    Args:
        task_name: For the progress bar.
        samples: What to ask.
        folder: The claimed run folder.
        get_backend: Called only where something is to be asked: loading a model takes minutes.
        sampling: How tokens are drawn.

    Raises:
        BackendError: an answer could not be had; those that came before are recorded.
    """
    requests = make_requests(samples, sampling)
    with folder.generations() as log:
        pending = [request for request in requests if request.key not in log.records]
        if not pending:
            return
        done = len(requests) - len(pending)
        with tqdm(total=len(requests), initial=done, desc=f"generating {task_name}", disable=None) as bar:
            for answers in get_backend().generate(pending):
                log.append(answers)
                bar.update(len(answers))
        absent = [request.key for request in pending if request.key not in log.records]
    if absent:
        raise BackendError(f"the backend ended without {len(absent)} answers, {absent[0]} first.")
