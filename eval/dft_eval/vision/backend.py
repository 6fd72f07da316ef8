"""A vision-language model asked through VLMEvalKit: its prompts, its images, our sampling and our records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dft_eval.backends.base import Request, SamplingParams
from dft_eval.backends.hf import HfSettings
from dft_eval.backends.openai_server import OpenAISettings
from dft_eval.errors import BackendError, ConfigError
from dft_eval.records.schema import Answer
from dft_eval.vision.dataset import VlmevalDataset
from dft_eval.vision.process import VlmevalProcess
from dft_eval.vision.settings import VisionSettings


class VlmevalModel:
    """A model that VLMEvalKit's process asks; local weights are loaded there with the first question.

    Args:
        model: A folder or a hub's name; or the name on the server.
        backend: `hf` or `openai`.
        vision: Image limits and attention.
        sampling: Sent whole.
        process: VLMEvalKit's; other models may share it.

    Attributes:
        spec: Description of the model in a job.
        process: As given.
    """

    def __init__(
        self,
        model: str,
        backend: HfSettings | OpenAISettings,
        vision: VisionSettings,
        sampling: SamplingParams,
        process: VlmevalProcess,
    ) -> None:
        self.spec = _describe_model(model, backend, vision, sampling)
        self.process = process

    def close(self) -> None:
        """Free its memory in VLMEvalKit's process, which stays."""
        if self.process.is_running:
            for _ in self.process.run({"job": "forget_model"}):
                pass


class VlmevalBackend:
    """Answers to one benchmark.

    Args:
        dataset: The benchmark.
        model: The model.
    """

    def __init__(self, dataset: VlmevalDataset, model: VlmevalModel) -> None:
        self._dataset, self._model = dataset, model

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Answer]]:
        """Yield an answer to every request, one at a time, as they come."""
        waiting = {request.sample.sample_id: request for request in requests}
        rows = [
            {"id": sample_id, "seed": request.seed, "max_new_tokens": request.max_new_tokens}
            for sample_id, request in waiting.items()
        ]
        job = {"job": "infer", **self._dataset.describe(), "rows": rows, "model": self._model.spec}
        for message in self._model.process.run(job):
            answer = message["answer"]
            request = waiting.pop(answer["id"], None)
            if request is None:
                raise BackendError(
                    f"VLMEvalKit answered {answer['id']!r} of {self._dataset.task_name}, which was not asked"
                )
            yield [request.answer(answer["text"], answer["finish_reason"])]

    def close(self) -> None:
        """Leave the model loaded for the next benchmark."""


def _describe_model(
    model: str, backend: HfSettings | OpenAISettings, vision: VisionSettings, sampling: SamplingParams
) -> dict[str, Any]:
    drawn = asdict(sampling)
    drawn = {name: drawn[name] for name in ("temperature", "top_p", "top_k", "repetition_penalty")}
    if isinstance(backend, OpenAISettings):
        return {**backend.model_dump(), "model": model, "sampling": drawn}
    if (Path(model) / "adapter_config.json").exists():
        raise ConfigError(f"{model} holds an adapter; merge it first (llamafactory-cli export, swift export).")
    path = str(Path(model).resolve()) if Path(model).is_dir() else model
    limits = {"attention": vision.attention, "min_pixels": vision.min_pixels, "max_pixels": vision.max_pixels}
    return {"kind": "hf", "path": path, "dtype": backend.dtype, "device": backend.device, **limits, "sampling": drawn}
