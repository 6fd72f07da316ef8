"""A training step with a frozen model's log-probabilities taken beforehand, against that model in memory.

    python tests/benchmarks/reference_step.py --steps 6 --json

SmolLM2-135M-Instruct learns GSM8K answers by `prift` in float32 with AdamW, one thread; the frozen model is the one it
starts from. Arms, each in a process of its own: `cached` reads what an earlier process wrote, `two_models` asks the
frozen model in every step, through the fused loss too. The losses of all steps must agree. Time: process CPU time,
median of the steps after the first; memory: high-water mark of the resident set, optimiser and imports included.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))
from dft_plugin import TokenContext, linear_loss
from dft_plugin.analysis.target_logps import TargetScorer
from tests.benchmarks.filter_curves import collate, samples
from tests.real_model import real_model_folder

MAX_LOSS_DIFFERENCE = 1e-5


def load_model(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def load_batches(folder: Path, args: argparse.Namespace) -> list[dict[str, Tensor]]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    data = Path(os.environ["DFT_DATA_DIR"]) / "gsm8k" / "train.jsonl"
    rows = samples(tokenizer, data, args.steps * args.batch, args.max_tokens)
    groups = (rows[start : start + args.batch] for start in range(0, len(rows), args.batch))
    return [collate(group, tokenizer.pad_token_id) for group in groups]


def reference_logps(scorer: TargetScorer, batch: dict[str, Tensor]) -> Tensor:
    """Shape (B, T), aligned with the labels, 0 where they are ignored."""
    logps = scorer({"input_ids": batch["input_ids"]}, batch["labels"]).float()
    return torch.nn.functional.pad(logps, (1, 0))


def train(arm: str, folder: Path, cache: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Train in this process, or write what `cached` reads."""
    torch.set_num_threads(1)
    batches = load_batches(folder, args)
    if arm == "write":
        scorer = TargetScorer(load_model(folder))
        torch.save([reference_logps(scorer, batch) for batch in batches], cache)
        return {}
    policy = load_model(folder)
    optimiser = torch.optim.AdamW(policy.parameters(), lr=5e-5, weight_decay=0.0)
    cached: list[Tensor] = torch.load(cache) if arm == "cached" else []
    scorer = TargetScorer(load_model(folder)) if arm == "two_models" else None
    losses, seconds = [], []
    for step, batch in enumerate(batches):
        start = time.process_time()
        ref_logps = cached[step] if scorer is None else reference_logps(scorer, batch)
        hidden = policy.model(input_ids=batch["input_ids"]).last_hidden_state
        context = TokenContext(ref_logps=ref_logps)
        loss = linear_loss(hidden, policy.lm_head.weight, batch["labels"], objective="prift", context=context).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        seconds.append(time.process_time() - start)
        losses.append(loss.item())
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"losses": losses, "step_cpu_s": statistics.median(seconds[1:]), "peak_rss_mib": peak_mib}


def train_apart(arm: str, folder: Path, cache: Path, words: list[str]) -> dict[str, Any]:
    command = [sys.executable, __file__, *words, "--arm", arm, str(folder), str(cache)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"the {arm} arm failed:\n{result.stderr[-4000:]}")
    return json.loads(result.stdout.strip().splitlines()[-1])


def main() -> int:
    """Print the comparison; exit code 1 where the losses differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch", type=int, default=4, help="samples in a step")
    parser.add_argument("--max-tokens", type=int, default=200, help="longer samples are left out")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--arm", nargs=3, metavar=("ARM", "FOLDER", "CACHE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.arm:
        arm, folder, cache = args.arm
        print(json.dumps(train(arm, Path(folder), Path(cache), args)))
        return 0
    found_model = real_model_folder()
    if found_model is None or not (Path(os.environ.get("DFT_DATA_DIR", "")) / "gsm8k" / "train.jsonl").is_file():
        print("needs the network for the model, and DFT_DATA_DIR with gsm8k", file=sys.stderr)
        return 3
    with tempfile.TemporaryDirectory() as name:
        arms = ("write", "cached", "two_models")
        found = {arm: train_apart(arm, found_model, Path(name) / "logps.pt", sys.argv[1:]) for arm in arms}
    cached, both = found["cached"], found["two_models"]
    pairs = zip(cached["losses"], both["losses"], strict=True)
    report = {
        "versions": {package: importlib.metadata.version(package) for package in ("torch", "transformers")},
        "shape": {"steps": args.steps, "batch": args.batch, "max_tokens": args.max_tokens},
        "losses": [round(loss, 6) for loss in cached["losses"]],
        "largest_loss_difference": max(abs(a - b) for a, b in pairs),
        "step_time_ratio": round(cached["step_cpu_s"] / both["step_cpu_s"], 3),
        "memory_ratio": round(cached["peak_rss_mib"] / both["peak_rss_mib"], 3),
        **{f"{arm}_{key}": round(found[arm][key], 2) for arm in arms[1:] for key in ("step_cpu_s", "peak_rss_mib")},
    }
    print(json.dumps(report) if args.json else "\n".join(f"{key}: {value}" for key, value in report.items()))
    return 0 if report["largest_loss_difference"] <= MAX_LOSS_DIFFERENCE else 1


if __name__ == "__main__":
    sys.exit(main())
