"""A language model that trains in a minute on one CPU core: real Qwen2 architecture, 0.2 million parameters."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from dft_eval.tasks.toy import CHARACTERS

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
TEMPLATE = "chatml"
"""A chat template LLaMA-Factory and ms-swift both know by this name and write token for token alike."""

_ROLES = ("user", "assistant")
_NEWLINE = "\u010a"  # how byte-level BPE writes it
_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def chat_prompt(prompt: str) -> str:
    """The text in front of the response, as `TEMPLATE` writes it."""
    return f"{START}user\n{prompt}{END}\n{START}assistant\n"


def make_tokenizer() -> Qwen2Tokenizer:
    """One token per character of the toy tasks, per role name and per special token.

    The role names are merged from their left end, and the toy tasks have no `s`, so no merge touches them.
    It is a real `Qwen2Tokenizer`: for this architecture newer versions of transformers load any tokenizer
    as one, and splitting text differently in two frameworks would compare different data.
    """
    prefixes = [role[:end] for role in _ROLES for end in range(2, len(role) + 1)]
    words = [PAD, START, END, _NEWLINE, *sorted({*CHARACTERS, *"".join(_ROLES)}), *prefixes]
    return Qwen2Tokenizer(
        vocab={word: index for index, word in enumerate(words)},
        merges=[(prefix[:-1], prefix[-1]) for prefix in prefixes],
        unk_token=PAD,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[START],
        chat_template=_CHAT_TEMPLATE,
    )


def make_model(vocab_size: int, *, eos_token_id: int, pad_token_id: int, seed: int) -> Qwen2ForCausalLM:
    """A Qwen2 model with random weights, the same for the same seed."""
    config = Qwen2Config(
        vocab_size=vocab_size,
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=eos_token_id,
        pad_token_id=pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen2ForCausalLM(config)


def write_tiny_model(folder: Path, seed: int) -> int:
    """Write a freshly initialised model and its tokenizer.

    Returns:
        The number of parameters.
    """
    tokenizer = make_tokenizer()
    model = make_model(
        len(tokenizer), eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, seed=seed
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())
