"""The `infer` job: VLMEvalKit asks a model, and every answer is sent at once."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dft_eval.vision.runner import Emit, Message, rows


class Inference:
    """Answers of one model at a time, which stays loaded between jobs.

    Args:
        folder: VLMEvalKit's data folder. What it writes there is read by nothing later: the parent records answers.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._model: Any = None
        self._spec: Mapping[str, Any] | None = None

    def run(self, job: Mapping[str, Any], emit: Emit) -> None:
        """Ask for the rows of `job`; one message `answer` each."""
        from vlmeval.inference import infer_data_job

        dataset = rows.build(self._folder, job)
        asked = {row["id"]: row for row in job["rows"]}
        dataset.data = rows.select(dataset, asked)
        rows.check_images(dataset.data)
        build_prompt = dataset.build_prompt

        def build_tagged(line: Any) -> Message:
            message = Message(build_prompt(line))
            message.row = str(line["index"])
            return message

        def tell(row: str, text: str, finish_reason: str) -> None:
            emit({"answer": {"id": row, "text": text, "finish_reason": finish_reason}})

        dataset.build_prompt = build_tagged
        model = self._load(job["model"])
        model.begin(asked, tell)
        with tempfile.TemporaryDirectory(dir=self._folder) as work:
            infer_data_job(model, work, "model", dataset, api_nproc=job["model"].get("concurrency", 1))

    def forget_model(self, job: Mapping[str, Any], emit: Emit) -> None:
        """Free the memory of the model that is loaded."""
        import gc

        import torch

        self._model = self._spec = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _load(self, spec: Mapping[str, Any]) -> Any:
        if self._spec != spec:
            from dft_eval.vision.runner.models import make_model

            self._model = None  # two do not fit
            self._model, self._spec = make_model(spec), spec
        return self._model
