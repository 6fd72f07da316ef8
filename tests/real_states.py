"""Hidden states, head and targets of the real model on GSM8K answers: what synthetic numbers hide, these show."""

import json
import os
import re
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from tests.real_model import CACHE, END, real_model_folder


class RealStates(NamedTuple):
    """Last hidden states (N, H), head (V, H) in float32 and target ids (N,) of answer tokens."""

    hidden: Tensor
    weight: Tensor
    targets: Tensor


def real_states(num_tokens: int) -> RealStates | None:
    """The first `num_tokens` answer tokens of GSM8K's training problems; None where model or data cannot be had.

    Raises:
        ValueError: the data have fewer tokens.
    """
    data = Path(os.environ.get("DFT_DATA_DIR", "")) / "gsm8k" / "train.jsonl"
    model_folder = real_model_folder()
    if model_folder is None or not data.is_file():
        return None
    file = CACHE / f"states_{num_tokens}.pt"
    if not file.is_file():
        states = _compute(model_folder, data, num_tokens)
        partial = file.with_suffix(f".{os.getpid()}")
        torch.save(states._asdict(), partial)
        partial.rename(file)
    return RealStates(**torch.load(file))


@torch.no_grad()
def _compute(model_folder: Path, data: Path, num_tokens: int) -> RealStates:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    hidden, targets, num_found = [], [], 0
    for line in data.read_text().splitlines():
        row = json.loads(line)
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": row["question"]}], add_generation_prompt=True, tokenize=False
        )
        answer = re.sub(r"<<.*?>>", "", row["answer"]) + END
        prompt_ids, answer_ids = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, answer))
        states = model.model(input_ids=torch.tensor([prompt_ids + answer_ids])).last_hidden_state[0]
        hidden.append(states[len(prompt_ids) - 1 : -1])
        targets.append(torch.tensor(answer_ids))
        num_found += len(answer_ids)
        if num_found >= num_tokens:
            weight = model.get_output_embeddings().weight.detach()
            return RealStates(torch.cat(hidden)[:num_tokens], weight, torch.cat(targets)[:num_tokens])
    raise ValueError(f"{data} has {num_found} answer tokens; {num_tokens} were asked for.")
