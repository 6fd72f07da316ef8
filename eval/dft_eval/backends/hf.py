"""Transformers in this process: slow, exact, and the yardstick of the other backends."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from dft_eval.backends.base import Backend, BackendSettings, Interface, Request, SamplingParams
from dft_eval.backends.hf_reading import read_continuations
from dft_eval.backends.tokens import (
    check_lengths,
    check_template,
    collect_eos_ids,
    cut_at_stop,
    encode_prompt,
    end_token_ids,
)
from dft_eval.errors import BackendError, MissingPrerequisite
from dft_eval.records.schema import Answer


class HfSettings(BackendSettings):
    """Transformers in this process; its batch size moves greedy answers in low precision, so it may not change.

    Attributes:
        dtype: Of the weights; `auto` is the checkpoint's.
        device: For example `cuda` or `cpu`.
        batch_size: Answers at once.
    """

    reads_continuations: ClassVar[bool] = True

    kind: Literal["hf"]
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str
    batch_size: Annotated[int, Field(ge=1)] = 16

    def make(self, model: str, interface: Interface, sampling: SamplingParams) -> Backend:
        """Load the model."""
        return HfBackend(model, self, interface, sampling)


class HfBackend:
    """Generates with `model.generate`, left-padded batches of prompts of like length.

    The model's own generation_config.json decides nothing but where text ends.

    Args:
        model: Folder or name.
        settings: How it is loaded.
        interface: Whether prompts go through the chat template.
        sampling: How tokens are drawn.
    """

    def __init__(self, model: str, settings: HfSettings, interface: Interface, sampling: SamplingParams) -> None:
        try:
            import torch
            import transformers
            from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
        except ImportError as error:
            raise MissingPrerequisite("backend hf needs transformers; run: pip install transformers torch") from error
        if settings.device.startswith("cuda") and not torch.cuda.is_available():
            raise MissingPrerequisite(f"device: {settings.device}, but PyTorch sees no CUDA device; set `device: cpu`.")
        self._settings, self._interface, self._sampling = settings, interface, sampling
        if not sys.stderr.isatty():
            transformers.utils.logging.disable_progress_bar()
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(model)
            check_template(self._tokenizer, model, interface)
            dtype = settings.dtype if settings.dtype == "auto" else getattr(torch, settings.dtype)
            self._model: Any = AutoModelForCausalLM.from_pretrained(model, dtype=dtype).to(settings.device).eval()
        except OSError as error:
            raise BackendError(f"model {model} cannot be loaded: {error}") from error
        self._eos_ids = collect_eos_ids(
            self._tokenizer.eos_token_id,
            self._model.config.eos_token_id,
            self._model.generation_config.eos_token_id,
            end_token_ids(self._tokenizer),
        )
        self._pad_id = self._eos_ids[0] if self._tokenizer.pad_token_id is None else self._tokenizer.pad_token_id
        # whatever is unset in a request is filled in from here, silently: a checkpoint's repetition penalty, say
        self._model.generation_config = GenerationConfig()
        self._limit = getattr(self._model.config, "max_position_embeddings", None)  # None: the model states no limit

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Answer]]:
        """The model's answers, a batch at a time."""
        given = [request for request in requests if request.sample.continuation]
        if given:
            settings = self._settings
            yield from read_continuations(
                self._model,
                self._tokenizer,
                given,
                batch_size=settings.batch_size,
                device=settings.device,
                limit=self._limit,
            )
        asked = [request for request in requests if not request.sample.continuation]
        encoded = [(request, encode_prompt(request, self._tokenizer, self._interface)) for request in asked]
        check_lengths([(request, len(prompt)) for request, prompt in encoded], self._limit)
        encoded.sort(key=lambda entry: (entry[0].max_new_tokens, len(entry[1])), reverse=True)
        for _, group in groupby(encoded, key=lambda entry: entry[0].max_new_tokens):
            alike = list(group)
            for start in range(0, len(alike), self._settings.batch_size):
                yield self._generate_batch(alike[start : start + self._settings.batch_size])

    def close(self) -> None:
        """Drop the model and its memory."""
        import torch

        del self._model
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _generate_batch(self, batch: Sequence[tuple[Request, list[int]]]) -> list[Answer]:
        import torch
        from transformers import GenerationConfig

        from dft_eval.backends.hf_decoding import StopTexts, TokenChooser, TokenLimits

        requests = [request for request, _ in batch]
        width = max(len(prompt) for _, prompt in batch)
        input_ids = torch.full((len(batch), width), self._pad_id)
        attention_mask = torch.zeros_like(input_ids)
        for row, (_, prompt) in enumerate(batch):
            input_ids[row, width - len(prompt) :] = torch.tensor(prompt)
            attention_mask[row, width - len(prompt) :] = 1
        attention_mask = attention_mask.to(self._settings.device)
        stops = StopTexts(self._tokenizer, [request.sample.stop for request in requests], width)
        room = [request.max_new_tokens for request in requests]
        if self._limit is not None:
            room = [min(request.max_new_tokens, self._limit - len(prompt)) for request, prompt in batch]
        chooser = TokenChooser(self._sampling, attention_mask, [random.Random(request.seed) for request in requests])
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=input_ids.to(self._settings.device),
                attention_mask=attention_mask,
                generation_config=GenerationConfig(
                    max_new_tokens=max(room),
                    do_sample=False,  # the chooser draws; the arg max of what it leaves is its choice
                    num_beams=1,
                    eos_token_id=self._eos_ids,
                    pad_token_id=self._pad_id,
                ),
                logits_processor=[chooser],
                stopping_criteria=[stops, TokenLimits(room, width)],
            )
        written = output[:, width:].tolist()
        rows = zip(requests, written, room, stops.has_fired, strict=True)
        return [self._answer(request, ids[:most], was_stopped) for request, ids, most, was_stopped in rows]

    def _answer(self, request: Request, token_ids: list[int], was_stopped: bool) -> Answer:
        end = next((index for index, token in enumerate(token_ids) if token in self._eos_ids), None)
        # only the model's own tokens: a row that ended early is filled up with padding
        text = self._tokenizer.decode(token_ids[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        text, has_stop = cut_at_stop(text, request.sample.stop)
        has_ended = end is not None or has_stop or was_stopped
        return request.answer(text, "stop" if has_ended else "length")
