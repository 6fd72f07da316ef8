"""Lengths of a data file's texts in tokens."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from dft_plugin.errors import ConfigError, MissingPrerequisiteError

_BATCH_ROWS = 1000
_PERCENTILES = (50, 90, 95, 99)


def measure_lengths(path: Path, tokenizer_name: str) -> dict[str, Any]:
    """Tokens of prompts (system turn included) and responses, without a chat template and without image tokens.

    Args:
        path: The data file.
        tokenizer_name: Name or folder.

    Raises:
        ConfigError: it cannot be loaded.
        MissingPrerequisiteError: transformers is not installed.
    """
    tokenizer = _load(tokenizer_name)
    prompts, responses = array("L"), array("L")
    for turns in _batches(path):
        prompts.extend(_count(tokenizer, ["\n".join(turn["content"] for turn in row[:-1]) for row in turns]))
        responses.extend(_count(tokenizer, [row[-1]["content"] for row in turns]))
    both = [prompt + response for prompt, response in zip(prompts, responses, strict=True)]
    return {
        "tokenizer_sha256": hashlib.sha256(_describe(tokenizer).encode()).hexdigest(),
        "prompt": _summary(prompts),
        "response": _summary(responses),
        "prompt_and_response": _summary(both),
    }


def _load(name: str) -> Any:
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise MissingPrerequisiteError("--tokenizer needs transformers; run: pip install transformers") from None
    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--tokenizer {name} cannot be loaded: {str(error).splitlines()[0]}") from None


def _describe(tokenizer: Any) -> str:
    """The tokenizer as text that is the same on every machine."""
    if tokenizer.is_fast:
        return str(tokenizer.backend_tokenizer.to_str())
    return json.dumps(sorted(tokenizer.get_vocab().items()))


def _batches(path: Path) -> Iterator[list[list[dict[str, str]]]]:
    with path.open(encoding="utf-8", newline="\n") as file:
        while lines := list(islice(file, _BATCH_ROWS)):
            yield [json.loads(line)["messages"] for line in lines]


def _count(tokenizer: Any, texts: Sequence[str]) -> list[int]:
    encoded = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return [len(ids) for ids in encoded]


def _summary(lengths: Sequence[int]) -> dict[str, Any]:
    ordered = sorted(lengths)
    last = len(ordered) - 1
    percentiles = {f"p{percent}": ordered[round(last * percent / 100)] for percent in _PERCENTILES}
    total = sum(ordered)
    return {
        "total": total,
        "mean": round(total / len(ordered), 2),
        "min": ordered[0],
        **percentiles,
        "max": ordered[-1],
    }
