"""Tiny models, tokenizers and datasets, made locally at random; shared by both frameworks' tests."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

VOCAB_SIZE = 320


def samples(count: int, *, seed: int = 0) -> list[dict[str, str]]:
    """Question and answer pairs of very unequal lengths."""
    rng = random.Random(seed)
    words = "add the two numbers then carry one and write down what remains of it".split()
    rows = []
    for _ in range(count):
        a, b = rng.randrange(100), rng.randrange(100)
        padding = " ".join(rng.choices(words, k=rng.randrange(1, 25)))
        rows.append({"question": f"What is {a}+{b}? {padding}", "answer": f"{padding} {a}+{b}={a + b}"})
    return rows


def text_config(vocab_size: int, **options: Any) -> Any:
    """A two-layer Qwen2Config; `options` on top."""
    from transformers import Qwen2Config

    sizes = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": False,
        "bos_token_id": None,
    }
    return Qwen2Config(vocab_size=vocab_size, **{**sizes, **options})


def make_text_model(
    folder: Path,
    *,
    tie_word_embeddings: bool = False,
    hidden_size: int = 32,
    initializer_range: float = 0.3,
    seed: int = 0,
) -> Path:
    """A random two-layer Qwen2 with its tokenizer, saved in `folder`.

    The wide initialisation spreads the probabilities: at the usual 0.02 every token is equally likely and all
    weights are alike.
    """
    import torch
    from transformers import Qwen2ForCausalLM

    from dft_plugin.demo.bpe_tokenizer import make_bpe_tokenizer  # here: this file is read where dft_plugin is not

    tokenizer = make_bpe_tokenizer([row["question"] + row["answer"] for row in samples(50)], vocab_size=VOCAB_SIZE)
    torch.manual_seed(seed)
    config = text_config(
        len(tokenizer) + 3,
        hidden_size=hidden_size,
        tie_word_embeddings=tie_word_embeddings,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=initializer_range,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_llamafactory_data(folder: Path, count: int = 48) -> Path:
    """`toy` (chat) and `toy_pt` (plain text) as LLaMA-Factory reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = samples(count)
    (folder / "toy.json").write_text(json.dumps(rows))
    (folder / "toy_pt.json").write_text(json.dumps([{"text": row["question"] + " " + row["answer"]} for row in rows]))
    info = {
        "toy": {"file_name": "toy.json", "columns": {"prompt": "question", "response": "answer"}},
        "toy_pt": {"file_name": "toy_pt.json", "columns": {"prompt": "text"}},
    }
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder
