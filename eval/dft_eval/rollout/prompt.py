"""One prompt of a rollout with its reference, and the file that keeps them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from dft_eval.errors import RecordsError
from dft_eval.records.schema import Sample

PROMPTS_NAME = "prompts.jsonl"

Messages = tuple[dict[str, str], ...]


@dataclass(frozen=True)
class Prompt:
    """One prompt with its reference.

    Attributes:
        prompt_id: Hash of `messages`, so that it is the same in whatever file and place.
        messages: What training data will hold before the answer: `{"role": ..., "content": ...}`.
        golds: Accepted references.
        text: What a completion interface is sent; empty for a chat one, which is sent `messages`.
    """

    prompt_id: str
    messages: Messages
    golds: tuple[str, ...]
    text: str = ""

    def sample(self, stop: tuple[str, ...], max_new_tokens: int) -> Sample:
        """Return what a backend is asked."""
        return Sample(self.prompt_id, self.text or self.messages, stop, max_new_tokens)


_PROMPT = TypeAdapter(Prompt)


def hash_messages(messages: Sequence[Mapping[str, str]]) -> str:
    """Return the id of a prompt with these messages."""
    return hashlib.sha256(json.dumps(list(messages), ensure_ascii=True, sort_keys=True).encode()).hexdigest()[:20]


def dump_prompts(prompts: Sequence[Prompt]) -> str:
    """Return the content of `prompts.jsonl`."""
    return "".join(json.dumps(asdict(prompt), ensure_ascii=False) + "\n" for prompt in prompts)


def load_prompts(path: Path) -> list[Prompt]:
    """Read a run folder's `prompts.jsonl`.

    Raises:
        RecordsError: it is damaged or not there.
    """
    try:
        return [_PROMPT.validate_json(line) for line in path.read_bytes().splitlines()]
    except (OSError, ValidationError) as error:
        raise RecordsError(f"{path} cannot be read ({error!s:.200}); run `dft rollout sample` again.") from error
