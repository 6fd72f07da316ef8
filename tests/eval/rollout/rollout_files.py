"""A small rollout whose answers are known: prompts, recorded answers, a configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from dft_eval.rollout.config import PromptSettings
from dft_eval.rollout.prompts import read_prompts

NUM_REPEATS = 4
QUESTIONS = {
    "What is 2+3?": ("5", ["It is 5.", "It is 5.", "2+3=\\boxed{5}", "six"]),  # a right answer comes twice
    "What is 2*3?": ("6", ["\\boxed{5}", "\\boxed{7}", "nothing", ""]),
    "What is 7-3?": ("4", ["\\boxed{4}", "so 4", "\\boxed{3}", "\\boxed{4} and then"]),  # the last one is cut off
}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_rollout(folder: Path, **overrides: Any) -> Path:
    """The configuration; its answers are replayed into `folder/run`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"question": question, "solution": f"Easy.\n#### {gold}"} for question, (gold, _) in QUESTIONS.items()]
    prompts = {
        "file": str(write_rows(folder / "prompts.jsonl", rows)),
        "prompt": "question",
        "gold": "solution",
        "gold_form": "hashes",
    }
    found = read_prompts(PromptSettings(**prompts), "chat").prompts
    answers = [
        {
            "sample_id": prompt.prompt_id,
            "repeat": repeat,
            "completion": text,
            "finish_reason": "length" if text.endswith("then") else "stop",
        }
        for prompt, (_, texts) in zip(found, QUESTIONS.values(), strict=True)
        for repeat, text in enumerate(texts)
    ]
    content = {
        "model": "recorded",
        "prompts": prompts,
        "rules": "math",
        "interface": "chat",
        "backend": {"kind": "replay", "samples": str(write_rows(folder / "answers.jsonl", answers))},
        "sampling": {"temperature": 1.0, "num_repeats": NUM_REPEATS, "max_new_tokens": 64},
        "out": str(folder / "run"),
        **overrides,
    }
    file = folder / "rollout.yaml"
    file.write_text(yaml.safe_dump(content))
    return file
