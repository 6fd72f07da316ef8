"""The judge as VLMEvalKit calls it: cached, and a call that fails is never taken for a verdict."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from typing import Any

import openai

from dft_eval.vision.runner import Emit

FAILED = "Failed to obtain answer via API."
"""Text that VLMEvalKit takes for a failed call."""
MAX_TOKENS = 128


class JudgeDownError(RuntimeError):
    """More prompts went without a reply than the run allows."""


class Judge:
    """Replies of a judging model, each asked for once.

    Args:
        spec: Address, name and limits; `max_failed` prompts may go without a reply.
        cache: Replies by key, from earlier attempts.
        emit: Gets each new reply, before it is used.
    """

    def __init__(self, spec: Mapping[str, Any], cache: Mapping[str, str], emit: Emit) -> None:
        self._spec, self._replies, self._emit = spec, dict(cache), emit
        self._failed: set[str] = set()
        self._reason = ""
        self._lock = threading.Lock()
        self._alone: dict[str, threading.Lock] = {}
        self._client = openai.OpenAI(
            base_url=spec["base_url"],
            api_key=os.environ.get(spec["api_key_env"]) or "none",
            timeout=spec["timeout_s"],
            max_retries=spec["max_attempts"] - 1,
        )

    def working(self) -> bool:
        """Return True: without a judge VLMEvalKit would score by another rule. Failed calls are found later."""
        return True

    def generate(self, prompt: str, temperature: float = 0.0) -> str:
        """The reply, or `FAILED`.

        Raises:
            JudgeDownError: too many prompts have failed.
        """
        key = _key(self._spec["model"], prompt, temperature)
        with self._lock:
            alone = self._alone.setdefault(key, threading.Lock())
        with alone:  # the same prompt for two rows is asked once
            known = self._recall(key, prompt)
            if known is not None:
                return known
            reply, reason = self._ask(prompt, temperature)
            with self._lock:
                if reply:
                    self._replies[key] = reply
                    self._emit({"reply": {"key": key, "text": reply}})
                else:
                    self._failed.add(prompt)
                    self._reason = reason
            return reply or FAILED

    def _recall(self, key: str, prompt: str) -> str | None:
        with self._lock:
            if len(self._failed) > self._spec["max_failed"]:
                raise JudgeDownError(f"{len(self._failed)} prompts got no reply from the judge, lastly: {self._reason}")
            if prompt in self._failed:  # VLMEvalKit retries at a higher temperature; the client has tried enough
                return FAILED
            return self._replies.get(key)

    def _ask(self, prompt: str, temperature: float) -> tuple[str, str]:
        try:
            chat = self._client.chat.completions.create(
                model=self._spec["model"],
                messages=[{"role": "user", "content": prompt}],
                temperature=temperature,
                max_tokens=MAX_TOKENS,
                n=1,
            )
            text = chat.choices[0].message.content
        except openai.OpenAIError as error:
            return "", f"{type(error).__name__}: {error}"
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            return "", f"not a chat completion ({type(error).__name__})"
        return (text or "").strip(), "an empty reply"


def _key(model: str, prompt: str, temperature: float) -> str:
    asked = json.dumps([model, prompt, temperature, MAX_TOKENS])
    return hashlib.sha256(asked.encode()).hexdigest()
