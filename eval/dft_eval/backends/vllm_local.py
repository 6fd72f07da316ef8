"""VLLM in this process."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from dft_eval.backends.base import Backend, BackendSettings, Interface, Request, SamplingParams
from dft_eval.backends.tokens import check_template, cut_at_stop, encode_prompt, end_token_ids
from dft_eval.errors import BackendError, MissingPrerequisite
from dft_eval.records.schema import Answer


class VllmSettings(BackendSettings):
    """VLLM in this process.

    Attributes:
        dtype: Of the weights; `auto` is the checkpoint's.
        tensor_parallel_size: GPUs a model is split over.
        gpu_memory_utilization: Share of each GPU's memory it takes.
        max_model_len: Longest prompt and answer together; None is the model's.
        batch_size: Answers after which the file is written.
    """

    speed_only: ClassVar[frozenset[str]] = frozenset({"gpu_memory_utilization", "batch_size"})

    kind: Literal["vllm"]
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    tensor_parallel_size: Annotated[int, Field(ge=1)] = 1
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    max_model_len: Annotated[int, Field(ge=1)] | None = None
    batch_size: Annotated[int, Field(ge=1)] = 512

    def make(self, model: str, interface: Interface, sampling: SamplingParams) -> Backend:
        """Load the model."""
        return VllmBackend(model, self, interface, sampling)


class VllmBackend:
    """Generates with vLLM; prompts are the same token ids as with transformers.

    Args:
        model: Folder or name.
        settings: How it is loaded.
        interface: Whether prompts go through the chat template.
        sampling: How tokens are drawn; the model's own generation_config.json decides nothing but where text ends.
    """

    def __init__(self, model: str, settings: VllmSettings, interface: Interface, sampling: SamplingParams) -> None:
        try:
            import vllm
        except ImportError as error:
            raise MissingPrerequisite(
                "backend vllm needs vLLM, best in an environment of its own; run: pip install vllm"
            ) from error
        self._vllm: Any = vllm
        self._settings, self._interface, self._sampling = settings, interface, sampling
        options: dict[str, Any] = {} if settings.max_model_len is None else {"max_model_len": settings.max_model_len}
        self._engine: Any = vllm.LLM(
            model=model,
            dtype=settings.dtype,
            tensor_parallel_size=settings.tensor_parallel_size,
            gpu_memory_utilization=settings.gpu_memory_utilization,
            seed=sampling.seed,
            **options,
        )
        self._tokenizer: Any = self._engine.get_tokenizer()
        check_template(self._tokenizer, model, interface)

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Answer]]:
        """The model's answers, a batch at a time."""
        for start in range(0, len(requests), self._settings.batch_size):
            batch = requests[start : start + self._settings.batch_size]
            prompts = [
                {"prompt_token_ids": encode_prompt(request, self._tokenizer, self._interface)} for request in batch
            ]
            parameters = [self._parameters(request) for request in batch]
            outputs = self._engine.generate(prompts, parameters, use_tqdm=False)
            yield [self._answer(request, output.outputs[0]) for request, output in zip(batch, outputs, strict=True)]

    def close(self) -> None:
        """Drop the engine and its memory, so that the next model finds room."""
        core = getattr(self._engine.llm_engine, "engine_core", None)  # older versions have none of its own to stop
        if core is not None:
            core.shutdown()
        del self._engine
        gc.collect()

    def _parameters(self, request: Request) -> Any:
        return self._vllm.SamplingParams(
            n=1,
            temperature=self._sampling.temperature,
            top_p=self._sampling.top_p,
            top_k=self._sampling.top_k,
            repetition_penalty=self._sampling.repetition_penalty,
            max_tokens=request.max_new_tokens,
            stop=list(request.sample.stop) or None,
            stop_token_ids=end_token_ids(self._tokenizer) or None,
            seed=request.seed,
        )

    def _answer(self, request: Request, output: Any) -> Answer:
        if output.finish_reason not in ("stop", "length"):
            raise BackendError(f"vLLM ended {request.sample.sample_id} with {output.finish_reason!r}.")
        text, has_stop = cut_at_stop(output.text, request.sample.stop)
        return request.answer(text, "stop" if has_stop else output.finish_reason)
