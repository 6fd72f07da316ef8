"""Prompts of a rollout: read from a file, checked, and known by what they say."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dft_eval.backends.base import Interface
from dft_eval.errors import ConfigError, RecordsError
from dft_eval.records.jsonl import read_object
from dft_eval.rollout.config import GoldForm, PromptSettings
from dft_eval.rollout.prompt import Prompt, hash_messages
from dft_eval.tasks.math.golds import last_box


@dataclass(frozen=True)
class PromptSet:
    """The prompts of a file.

    Attributes:
        prompts: Each once, in the order of the file.
        counts: Rows read, and how many were left out for which reason.
    """

    prompts: list[Prompt]
    counts: dict[str, int]


def read_prompts(settings: PromptSettings, interface: Interface, limit: int | None = None) -> PromptSet:
    """Read every prompt before the first is asked.

    A prompt that comes twice with the same reference is kept once; one that comes with different references has no
    known answer and is left out. Both are counted.

    Args:
        settings: Where and how.
        interface: Form of what is sent.
        limit: First prompts that are kept.

    Raises:
        RecordsError: a row without prompt or reference; names file, line and column.
        ConfigError: no prompt is left.
    """
    counts = Counter({"rows": 0, "duplicates": 0, "contradictory": 0})
    found: dict[str, Prompt] = {}
    contradictory: set[str] = set()
    for where, row in _rows(settings.file):
        counts["rows"] += 1
        prompt = _prompt(row, where, settings, interface)
        known = found.setdefault(prompt.prompt_id, prompt)
        if known is not prompt:
            counts["duplicates"] += known == prompt
            if known != prompt:
                contradictory.add(prompt.prompt_id)
    counts["contradictory"] = len(contradictory)
    prompts = [prompt for key, prompt in found.items() if key not in contradictory]
    if not prompts:
        raise ConfigError(f"{settings.file} holds no prompt to ask: {dict(counts)}.")
    return PromptSet(prompts[:limit], dict(counts))


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The rows, with where they stand."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                where = f"{path}, line {number}"
                if line.strip():
                    yield where, read_object(line, where, "one JSON object a line")
    except (OSError, EOFError) as error:
        raise RecordsError(f"{path} cannot be read ({error}); give JSONL, one JSON object a line.") from error


def _prompt(row: Mapping[str, Any], where: str, settings: PromptSettings, interface: Interface) -> Prompt:
    for column in (settings.prompt, settings.gold):
        if column not in row:
            raise RecordsError(f"{where} has no column {column!r}; found: {', '.join(map(repr, row)) or 'none'}.")
    asked = _asked(row[settings.prompt], f"{where}, column {settings.prompt!r}")
    *before, last = asked
    if settings.system is not None and asked[0]["role"] == "system":
        raise ConfigError(f"{where} has a system message of its own; remove prompts.system.")
    put = settings.template.replace("{prompt}", last["content"])
    golds = _golds(row[settings.gold], settings.gold_form, f"{where}, column {settings.gold!r}")
    if interface == "completion":
        if before:
            raise RecordsError(f"{where} has {len(asked)} messages; a completion interface is asked single questions.")
        return Prompt(hash_messages([last]), (last,), golds, put)
    system = [] if settings.system is None else [{"role": "system", "content": settings.system}]
    messages = [*system, *before, {"role": "user", "content": put}]
    return Prompt(hash_messages(messages), tuple(messages), golds)


def _asked(value: Any, where: str) -> list[dict[str, str]]:
    """Messages up to the last question."""
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    if not isinstance(value, list) or not all(
        isinstance(message, dict) and isinstance(message.get("role"), str) and isinstance(message.get("content"), str)
        for message in value
    ):
        raise RecordsError(f'{where}: a text or messages {{"role": ..., "content": ...}} are needed.')
    messages = [{"role": message["role"], "content": message["content"]} for message in value]
    while messages and messages[-1]["role"] == "assistant":
        messages.pop()
    if not messages or messages[-1]["role"] != "user" or not messages[-1]["content"].strip():
        raise RecordsError(f"{where}: there is no question; the message before the answer must be the user's.")
    return messages


def _golds(value: Any, form: GoldForm, where: str) -> tuple[str, ...]:
    texts = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise RecordsError(f"{where}: a text or a list of texts is needed, found {value!r:.80}.")
    golds = tuple(gold.strip() for text in texts if (gold := _gold(text, form)) is not None and gold.strip())
    if len(golds) < len(texts):
        place = {"whole": "is empty", "box": "has no closed \\boxed{}", "hashes": "has nothing after ####"}[form]
        raise RecordsError(f"{where} {place}; a reference is needed (gold_form: whole, box or hashes).")
    return golds


def _gold(text: str, form: GoldForm) -> str | None:
    if form == "box":
        return last_box(text)
    if form == "hashes":
        return text.rpartition("####")[2] if "####" in text else None
    return text
