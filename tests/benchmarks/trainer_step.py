"""One real training step through a framework: ours against its native DFT switch and its plain training.

    python tests/benchmarks/trainer_step.py --framework llamafactory --json      # in .venv
    python tests/benchmarks/trainer_step.py --framework ms_swift --json          # in .venv-swift

A random two-layer Qwen2 with a vocabulary of 151,936 learns GSM8K ($DFT_DATA_DIR/gsm8k) in float32, fully and
with LoRA. Every arm is one process of its own: the framework's own training function, one CPU thread, the median
CPU time of its steps after the first (which compiles, allocates and verifies), and the high-water mark of its
resident memory, imports and optimiser included. `--assert-targets` fails where a step takes more than half of the
native one's time, more than 0.4 of its memory, or more time than plain training.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

ARMS = ("plugin", "native", "plain")
MAX_STEP_TIME_RATIO, MAX_MEMORY_RATIO, MAX_OVER_PLAIN = 0.5, 0.4, 1.0


class StepTimer:
    """A trainer callback that notes the CPU seconds of each optimiser step."""

    def __new__(cls, *_: Any) -> Any:
        from transformers import TrainerCallback

        class Timer(TrainerCallback):
            seconds: list[float] = []  # noqa: RUF012 - one timer a process

            def on_step_begin(self, *_: Any, **__: Any) -> None:
                self.start = time.process_time()

            def on_step_end(self, *_: Any, **__: Any) -> None:
                self.seconds.append(time.process_time() - self.start)

        cls.timer = Timer()
        return cls.timer


def write_inputs(folder: Path, arguments: argparse.Namespace) -> None:
    """Model, tokenizer and data; the model's vocabulary is as large as Qwen's, the tokenizer's is not."""
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    from dft_plugin.demo.gsm8k import write_inputs as write_gsm8k

    write_gsm8k(folder, Path(os.environ.get("DFT_DATA_DIR", "data")))
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    config = Qwen2Config(
        vocab_size=arguments.vocab,
        hidden_size=arguments.hidden,
        intermediate_size=2 * arguments.hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder / "model")


def run_llamafactory(folder: Path, arm: str, tuner: str, arguments: argparse.Namespace) -> None:
    """One training run by LLaMA-Factory's own function."""
    from llamafactory.train.tuner import run_exp

    loss = {"plugin": {"loss_type": "dft"}, "native": {"use_dft_loss": True}, "plain": {}}[arm]
    lora = {"finetuning_type": "lora", "lora_target": "q_proj,v_proj"} if tuner == "lora" else {}
    settings = {
        "model_name_or_path": str(folder / "model"),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "full",
        "dataset": "gsm8k_train",
        "dataset_dir": str(folder),
        "max_samples": arguments.batch * arguments.steps,
        "template": "chatml",
        "cutoff_len": arguments.length,
        "output_dir": str(folder / f"{arm}-{tuner}"),
        "per_device_train_batch_size": arguments.batch,
        "max_steps": arguments.steps,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_shuffling": True,
        "use_cpu": True,
    }
    run_exp({**settings, **lora, **loss}, callbacks=[StepTimer()])


def run_ms_swift(folder: Path, arm: str, tuner: str, arguments: argparse.Namespace) -> None:
    """One training run by ms-swift's own function."""
    from swift.callbacks.mapping import callbacks_map
    from swift.pipelines import sft_main

    callbacks_map["step_timer"] = StepTimer
    loss = {"plugin": ["--loss_type", "dft"], "native": ["--enable_dft_loss", "true"], "plain": []}[arm]
    settings = {
        "model": folder / "model",
        "model_type": "qwen2",
        "template": "chatml",
        "dataset": f"{folder / 'train.jsonl'}#{arguments.batch * arguments.steps}",
        "tuner_type": tuner,
        "torch_dtype": "float32",
        "attn_impl": "sdpa",
        "max_length": arguments.length,
        "truncation_strategy": "right",
        "output_dir": folder / f"{arm}-{tuner}",
        "per_device_train_batch_size": arguments.batch,
        "gradient_accumulation_steps": 1,
        "max_steps": arguments.steps,
        "logging_steps": 1,
        "callbacks": "step_timer",
        **dict.fromkeys(("save_strategy",), "no"),
        **dict.fromkeys(("check_model", "add_version", "dataset_shuffle", "train_dataloader_shuffle"), "false"),
        **dict.fromkeys(("split_dataset_ratio", "dataloader_num_workers"), "0"),
        "report_to": "none",
        "use_cpu": "true",
    }
    sft_main([*(str(word) for key, value in settings.items() for word in (f"--{key}", value)), *loss])


def measure_here(folder: Path, arm: str, tuner: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Train in this process and measure it."""
    import torch

    torch.set_num_threads(1)
    run = run_llamafactory if arguments.framework == "llamafactory" else run_ms_swift
    run(folder, arm, tuner, arguments)
    seconds = StepTimer.timer.seconds[1:]
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"step_cpu_s": statistics.median(seconds), "peak_rss_mib": peak_mib}


def measure(folder: Path, arm: str, tuner: str, words: list[str]) -> dict[str, float]:
    """Train in a fresh process and return what it measured."""
    command = [sys.executable, __file__, *words, "--measure", str(folder), arm, tuner]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "USE_HF": "1"}
    result = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"the {arm} arm ({tuner}) failed:\n{(result.stdout + result.stderr)[-4000:]}")
    return json.loads(result.stdout.strip().splitlines()[-1])


def compare(folder: Path, tuner: str, words: list[str]) -> dict[str, float]:
    """All arms, as ratios of ours to the others."""
    found = {arm: measure(folder, arm, tuner, words) for arm in ARMS}
    ours, native, plain = (found[arm] for arm in ARMS)
    return {
        "step_time_ratio": round(ours["step_cpu_s"] / native["step_cpu_s"], 3),
        "step_time_over_plain": round(ours["step_cpu_s"] / plain["step_cpu_s"], 3),
        "memory_ratio": round(ours["peak_rss_mib"] / native["peak_rss_mib"], 3),
        "peak_rss_mib": round(ours["peak_rss_mib"]),
        "native_peak_rss_mib": round(native["peak_rss_mib"]),
        "plain_peak_rss_mib": round(plain["peak_rss_mib"]),
        **{f"{arm}_step_cpu_s": round(found[arm]["step_cpu_s"], 2) for arm in ARMS},
    }


def main() -> int:
    """Print the comparison; with --assert-targets exit code 1 where one is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framework", choices=("llamafactory", "ms_swift"), required=True)
    parser.add_argument("--vocab", type=int, default=151_936)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16, help="sequences in a step")
    parser.add_argument("--length", type=int, default=256, help="tokens of the longest sequence")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--assert-targets", action="store_true")
    parser.add_argument("--measure", nargs=3, metavar=("FOLDER", "ARM", "TUNER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        folder, arm, tuner = arguments.measure
        print("\n" + json.dumps(measure_here(Path(folder), arm, tuner, arguments)))
        return 0
    with tempfile.TemporaryDirectory() as name:
        write_inputs(Path(name), arguments)
        results = {tuner: compare(Path(name), tuner, sys.argv[1:]) for tuner in ("full", "lora")}
    shape = {key: getattr(arguments, key) for key in ("vocab", "hidden", "batch", "length", "steps")}
    report = {
        "framework": arguments.framework,
        "versions": {name: version(name) for name in ("torch", "transformers", "dft-plugin")},
        "shape": shape,
        **results["full"],
        "lora": results["lora"],
    }
    if arguments.json:
        print(json.dumps(report))
    else:
        for key, value in report.items():
            print(f"{key}: {value}")
    missed = [
        f"{tuner}: {key}={result[key]} > {limit}"
        for tuner, result in results.items()
        for key, limit in (
            ("step_time_ratio", MAX_STEP_TIME_RATIO),
            ("memory_ratio", MAX_MEMORY_RATIO),
            ("step_time_over_plain", MAX_OVER_PLAIN),
        )
        if result[key] > limit
    ]
    print(*missed, sep="\n", file=sys.stderr)
    return int(arguments.assert_targets and bool(missed))


if __name__ == "__main__":
    sys.exit(main())
