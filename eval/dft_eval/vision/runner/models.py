"""Models as VLMEvalKit calls them: weights on any device, or a server with OpenAI's API."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import requests
import torch
from vlmeval.api.lmdeploy import LMDeployAPI
from vlmeval.vlm.base import BaseModel
from vlmeval.vlm.qwen2_vl.model import Qwen2VLChat

from dft_eval.vision.runner import Message

Tell = Callable[[str, str, str], None]
_LONGEST_WAIT_S = 30.0


def make_model(spec: Mapping[str, Any]) -> Any:
    """The model of a job."""
    return {"hf": LocalModel, "openai": ServerModel}[spec["kind"]](spec)


class LocalModel(Qwen2VLChat):
    """Weights in this process: VLMEvalKit's prompts and image limits, with our device, attention and sampling.

    The stock class wants a GPU with flash-attention, draws from the one most probable token, and takes a path with
    `omni` in it for another model.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        BaseModel.__init__(self)
        self._use_custom_prompt = False
        self.min_pixels, self.max_pixels, self.total_pixels = spec["min_pixels"], spec["max_pixels"], None
        self.processor = AutoProcessor.from_pretrained(spec["path"])
        self.model = AutoModelForImageTextToText.from_pretrained(
            spec["path"], dtype=spec["dtype"], attn_implementation=spec["attention"]
        )
        self.model.to(spec["device"]).eval()
        self._sampling = spec["sampling"]

    def begin(self, asked: Mapping[str, Mapping[str, Any]], tell: Tell) -> None:
        """Take the rows of a job, and the receiver of the answers."""
        self._asked, self._tell = asked, tell

    @torch.inference_mode()
    def generate(self, message: Message, dataset: str | None = None) -> str:
        """Answer one prompt."""
        from qwen_vl_utils import process_vision_info

        asked = self._asked[message.row]
        turns = [{"role": "user", "content": self._prepare_content(message, dataset=dataset)}]
        text = self.processor.apply_chat_template([turns], tokenize=False, add_generation_prompt=True)
        images, videos = process_vision_info([turns])
        inputs = self.processor(text=text, images=images, videos=videos, padding=True, return_tensors="pt")
        inputs = inputs.to(self.model.device)
        torch.manual_seed(asked["seed"])
        config = self._config(asked["max_new_tokens"])
        ids = self.model.generate(**inputs, generation_config=config)[0, inputs.input_ids.shape[1] :].tolist()
        stops = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
        has_stopped = bool(ids) and ids[-1] in stops
        answer: str = self.processor.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        self._tell(message.row, answer, "stop" if has_stopped else "length")
        return answer

    def _config(self, max_new_tokens: int) -> Any:
        """Our sampling and the model's special tokens: nothing else of its `generation_config.json` decides."""
        from transformers import GenerationConfig

        sampling, own = self._sampling, self.model.generation_config
        drawn: dict[str, Any] = {"do_sample": False}
        if sampling["temperature"] > 0:
            top_k = max(0, sampling["top_k"])
            drawn = {"do_sample": True, "top_k": top_k} | {name: sampling[name] for name in ("temperature", "top_p")}
        return GenerationConfig(
            max_new_tokens=max_new_tokens,
            repetition_penalty=sampling["repetition_penalty"],
            eos_token_id=own.eos_token_id,
            pad_token_id=own.pad_token_id,
            bos_token_id=own.bos_token_id,
            **drawn,
        )


class ServerModel(LMDeployAPI):
    """A server, asked as VLMEvalKit does: images as JPEG, sides under 100 pixels enlarged.

    The stock class turns what fails into an answer; here it ends the job.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        super().__init__(
            model=spec["model"],
            api_base=spec["base_url"].rstrip("/") + "/chat/completions",
            key=os.environ.get(spec["api_key_env"]) or "none",
            timeout=spec["timeout_s"],
            verbose=False,
        )
        self._max_attempts, self._sampling = spec["max_attempts"], spec["sampling"]

    def begin(self, asked: Mapping[str, Mapping[str, Any]], tell: Tell) -> None:
        """Take the rows of a job, and the receiver of the answers."""
        self._asked, self._tell = asked, tell

    def generate(self, message: Message, dataset: str | None = None) -> str:
        """Answer one prompt.

        Raises:
            RuntimeError: the server gave no answer.
        """
        asked = self._asked[message.row]
        arguments = dict(self._sampling) | {"max_tokens": asked["max_new_tokens"], "seed": asked["seed"]}
        content = self.preproc_content(list(message))
        for attempt in range(1, self._max_attempts + 1):
            try:
                _, _, response = self.generate_inner(content, dataset=dataset, **arguments)
            except (requests.ConnectionError, requests.Timeout) as error:
                reason, may_pass = f"{type(error).__name__}", True
            else:
                if response.ok:
                    answer, finish_reason = _read(response, message.row)
                    self._tell(message.row, answer, finish_reason)
                    return answer
                reason, may_pass = (
                    f"status {response.status_code}",
                    response.status_code in (408, 429) or (response.status_code >= 500),
                )
            if not may_pass or attempt == self._max_attempts:
                raise RuntimeError(f"{self.api_base} for row {message.row}: {reason}, attempt {attempt}")
            time.sleep(random.random() * min(_LONGEST_WAIT_S, 0.5 * 2**attempt))
        raise AssertionError("at least one attempt is made")


def _read(response: Any, row: str) -> tuple[str, str]:
    try:
        choice = json.loads(response.text)["choices"][0]
        text, finish_reason = choice["message"]["content"], choice["finish_reason"]
    except (ValueError, LookupError, TypeError):
        text = finish_reason = None
    if not isinstance(text, str) or finish_reason not in ("stop", "length"):
        raise RuntimeError(f"{response.url} for row {row}: no text that ended by stop or length: {response.text[:200]}")
    return text, finish_reason
