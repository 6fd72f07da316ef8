"""Training curves with and without `gradient_filter`, against what two seeds differ by.

    python tests/benchmarks/filter_curves.py --steps 60 --seeds 0 1 --json

SmolLM2-135M-Instruct on GSM8K answers, DFT, bfloat16 autocast, full fine-tuning and LoRA (head frozen). For each: the
held-out mean probability of the target and nll every few steps; the largest distance between the filtered and the
exact curve of one seed, and that between the exact curves of two seeds.
"""

import argparse
import importlib.metadata
import itertools
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2]))
from dft_plugin import linear_loss
from dft_plugin.core.column_filter import AUTO_BOUND
from tests.real_model import END, real_model_folder

HELD_OUT = 8
LEARNING_RATES = {"full": 5e-5, "lora": 5e-4}


def samples(tokenizer: Any, data: Path, count: int, max_tokens: int) -> list[tuple[list[int], list[int]]]:
    """Prompt and answer ids of the first `count` problems of at most `max_tokens` tokens."""
    found = []
    for line in data.open():
        row = json.loads(line)
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": row["question"]}], add_generation_prompt=True, tokenize=False
        )
        answer = re.sub(r"<<.*?>>", "", row["answer"]) + END
        ids = tuple(tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, answer))
        if len(ids[0]) + len(ids[1]) <= max_tokens:
            found.append(ids)
        if len(found) == count:
            return found
    raise ValueError(f"{data} has {len(found)} problems of at most {max_tokens} tokens; {count} are needed.")


def collate(rows: list[tuple[list[int], list[int]]], pad: int) -> dict[str, Tensor]:
    length = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids = torch.full((len(rows), length), pad)
    labels = torch.full_like(ids, -100)
    for index, (prompt, answer) in enumerate(rows):
        ids[index, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        labels[index, len(prompt) : len(prompt) + len(answer)] = torch.tensor(answer)
    # padding on the right: no kept token can see it
    return {"input_ids": ids, "labels": labels}


def load(folder: Path, kind: str) -> tuple[nn.Module, nn.Module]:
    """The model to train, and its decoder."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if kind == "lora":
        from peft import LoraConfig, get_peft_model

        names = ["q_proj", "k_proj", "v_proj", "o_proj"]
        model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=names))
        return model, model.get_base_model()
    return model, model


def step_loss(base: nn.Module, batch: dict[str, Tensor], bound: float | None) -> Any:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = base.model(input_ids=batch["input_ids"]).last_hidden_state
        return linear_loss(hidden, base.lm_head.weight, batch["labels"], gradient_filter=bound)


def curve(
    args: argparse.Namespace, folder: Path, data: list[Any], pad: int, kind: str, seed: int, bound: float | None
) -> dict[str, list[float]]:
    torch.manual_seed(seed)
    model, base = load(folder, kind)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=LEARNING_RATES[kind], weight_decay=0.0)
    held_out = collate(data[:HELD_OUT], pad)
    train = data[HELD_OUT:]
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed)).tolist()
    found: dict[str, list[float]] = {"train_loss": [], "held_out_p": [], "held_out_nll": [], "kept_columns": []}
    for step in range(args.steps):
        rows = [train[order[(step * args.batch + i) % len(order)]] for i in range(args.batch)]
        output = step_loss(base, collate(rows, pad), bound)
        output.loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        found["train_loss"].append(output.loss.item())
        if output.kept_columns is not None:
            found["kept_columns"].append(output.kept_columns)
        if (step + 1) % args.every == 0:
            with torch.no_grad():
                output = step_loss(base, held_out, None)
            nll = output.token_nll[output.loss_mask]
            found["held_out_p"].append(float((-nll).exp().mean()))
            found["held_out_nll"].append(float(nll.mean()))
    return found


def distance(a: dict[str, list[float]], b: dict[str, list[float]], name: str) -> float:
    return max(abs(x - y) for x, y in zip(a[name], b[name], strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--max-tokens", type=int, default=160, help="longer samples are left out")
    parser.add_argument("--every", type=int, default=10, help="steps between two looks at the held-out samples")
    parser.add_argument("--seeds", type=int, nargs=2, default=[0, 1])
    parser.add_argument("--kinds", nargs="+", choices=[*LEARNING_RATES], default=[*LEARNING_RATES])
    parser.add_argument("--bound", type=float, default=AUTO_BOUND)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder, data = real_model_folder(), Path(os.environ.get("DFT_DATA_DIR", "")) / "gsm8k" / "train.jsonl"
    if folder is None or not data.is_file():
        print("needs the network for the model, and DFT_DATA_DIR with gsm8k", file=sys.stderr)
        return 3
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = samples(tokenizer, data, HELD_OUT + args.steps * args.batch, args.max_tokens)
    result: dict[str, Any] = {"bound": args.bound, "steps": args.steps, "batch": args.batch, "seeds": args.seeds}
    result["max_tokens"] = args.max_tokens
    for kind in args.kinds:
        curves = {}
        for seed, bound in itertools.product(args.seeds, (None, args.bound)):
            start = time.monotonic()
            curves[seed, bound] = curve(args, folder, rows, tokenizer.pad_token_id, kind, seed, bound)
            print(f"{kind} seed {seed} bound {bound}: {time.monotonic() - start:.0f} s", file=sys.stderr)
        first, second = args.seeds
        result[kind] = {
            name: {
                "filtered_from_exact": max(distance(curves[s, None], curves[s, args.bound], name) for s in args.seeds),
                "seed_from_seed": distance(curves[first, None], curves[second, None], name),
            }
            for name in ("held_out_p", "held_out_nll")
        } | {"curves": {f"seed {seed}, bound {bound}": found for (seed, bound), found in curves.items()}}
    result["versions"] = {name: importlib.metadata.version(name) for name in ("torch", "dft-plugin")}
    if args.json:
        print(json.dumps(result))
    else:
        for kind in args.kinds:
            for name in ("held_out_p", "held_out_nll"):
                print(kind, name, result[kind][name])
    return 0


if __name__ == "__main__":
    sys.exit(main())
