"""Inputs of `yaml_examples/demo/gsm8k_*.yaml`: a small random Qwen2 and GSM8K as both frameworks read it.

    DFT_DATA_DIR=/path/to/data python -m dft_plugin.demo.gsm8k runs/gsm8k

The benchmark's own files, `$DFT_DATA_DIR/gsm8k/{train,test}.jsonl` (openai/grade-school-math, MIT), are
referred to, never copied, by LLaMA-Factory; ms-swift gets them rewritten in its own format.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from dft_eval.tasks.toy import Demonstration
from dft_plugin.demo.bpe_tokenizer import make_bpe_tokenizer
from dft_plugin.demo.data import write_jsonl
from dft_plugin.errors import MissingPrerequisiteError

NUM_TRAIN, NUM_EVAL = 7473, 256


def write_inputs(out: Path, data_dir: Path, *, vocab_size: int = 1000, seed: int = 0) -> None:
    """Write `model/`, `dataset_info.json`, `train.jsonl` and `eval.jsonl` into `out`.

    Raises:
        MissingPrerequisiteError: the benchmark's files are not in `data_dir`, or are others.
    """
    splits = {name: data_dir / "gsm8k" / f"{name}.jsonl" for name in ("train", "test")}
    rows = {name: _read(path) for name, path in splits.items()}
    if len(rows["train"]) != NUM_TRAIN:
        raise MissingPrerequisiteError(
            f"{splits['train']} has {len(rows['train'])} rows; GSM8K's training split has {NUM_TRAIN}. "
            "Fetch openai/grade-school-math again."
        )
    out.mkdir(parents=True, exist_ok=True)
    columns = {"prompt": "question", "response": "answer"}
    info = {
        "gsm8k_train": {"file_name": str(splits["train"].resolve()), "columns": columns},
        "gsm8k_test": {"file_name": str(splits["test"].resolve()), "columns": columns, "num_samples": NUM_EVAL},
    }
    (out / "dataset_info.json").write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")
    for name, chosen in (("train", rows["train"]), ("eval", rows["test"][:NUM_EVAL])):
        messages = (Demonstration(row["question"], row["answer"]).messages() for row in chosen)
        write_jsonl(out / f"{name}.jsonl", messages)
    _write_model(out / "model", [row["question"] + row["answer"] for row in rows["train"]], vocab_size, seed)


def _read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        raise MissingPrerequisiteError(
            f"{path} is missing: put openai/grade-school-math's train.jsonl and test.jsonl into a folder `gsm8k` "
            "and name its parent by DFT_DATA_DIR."
        )
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _write_model(folder: Path, texts: list[str], vocab_size: int, seed: int) -> None:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = make_bpe_tokenizer(texts, vocab_size=vocab_size)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    write_inputs(parser.parse_args().out, Path(os.environ.get("DFT_DATA_DIR", "data")))
