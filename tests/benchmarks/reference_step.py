"""One real training step of `prift`: with the reference's log-probabilities in the data, and with it in memory.

    python tests/benchmarks/reference_step.py --json      # in .venv

A random two-layer Qwen2 with a vocabulary of 151,936 learns GSM8K ($DFT_DATA_DIR/gsm8k) through LLaMA-Factory in
float32; another random one is its reference. Arm `cache` trains on what `dft reference` wrote. Arm `two_models` is what
a run without it does: the second model is loaded beside the first, and each step's rows go through it, without
gradients, by the same fused path (`target_logps`), for the same objective. Every arm is a process of its own on one
CPU thread: the median CPU time of its steps after the first, the high-water mark of its resident memory, and the
losses.
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

sys.path.insert(0, str(Path(__file__).parent))

from trainer_step import StepTimer, write_inputs

ARMS = ("cache", "two_models")


def configuration(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The training configuration, without a loss."""
    return {
        "model_name_or_path": str(folder / "model"),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "full",
        "dataset": "gsm8k_train",
        "dataset_dir": str(folder),
        "max_samples": arguments.batch * arguments.steps,
        "template": "chatml",
        "cutoff_len": arguments.length,
        "output_dir": str(folder / "run"),
        "per_device_train_batch_size": arguments.batch,
        "max_steps": arguments.steps,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_shuffling": True,
        "use_cpu": True,
    }


def make_reference(folder: Path, arguments: argparse.Namespace) -> None:
    """Another random model of the same shape, and the data with its column."""
    import torch
    import yaml
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from dft_plugin.reference.run import ReferenceSettings, run_reference

    torch.set_num_threads(1)
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder / "model")).save_pretrained(folder / "reference")
    AutoTokenizer.from_pretrained(folder / "model").save_pretrained(folder / "reference")
    (folder / "train.yaml").write_text(yaml.safe_dump(configuration(folder, arguments)))
    run_reference(ReferenceSettings(str(folder / "reference"), folder / "train.yaml", folder / "cache", device="cpu"))


def use_second_model(folder: Path) -> None:
    """Let each forward ask a second model in memory, in place of what the labels carry."""
    import dataclasses

    import torch
    from transformers import AutoModelForCausalLM

    from dft_plugin.analysis.target_logps import TargetScorer
    from dft_plugin.core.objectives import get_objective
    from dft_plugin.training.batch_context import BatchContext

    scorer = TargetScorer(AutoModelForCausalLM.from_pretrained(folder / "reference").eval())
    tokens, taken_from = BatchContext.tokens, BatchContext.taken_from
    found: dict[str, torch.Tensor] = {}

    def remember(self: Any, inputs: dict[str, Any], objective: Any) -> Any:
        if self.segments is None:  # the outermost call has the trainer's inputs
            found.update({name: inputs[name] for name in ("input_ids", "attention_mask", "labels")})
        return taken_from(self, inputs, objective)

    def with_second_model(self: Any, *arguments: Any) -> Any:
        context = tokens(self, *arguments)
        plain = self.plain(found["labels"], get_objective("prift"))
        logps = scorer({name: found[name] for name in ("input_ids", "attention_mask")}, plain)
        return dataclasses.replace(context, ref_logps=torch.nn.functional.pad(logps.float(), (1, 0)))

    BatchContext.taken_from, BatchContext.tokens = remember, with_second_model  # type: ignore[method-assign]


def measure_here(folder: Path, arm: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train in this process and measure it."""
    import torch
    from llamafactory.train.tuner import run_exp

    torch.set_num_threads(1)
    if arm == "two_models":
        use_second_model(folder)
    settings = configuration(folder, arguments)
    run_exp(
        {**settings, "dataset_dir": str(folder / "cache"), "loss_type": "prift", "output_dir": str(folder / arm)},
        callbacks=[StepTimer()],
    )
    state = json.loads((folder / arm / "trainer_state.json").read_text())
    return {
        "step_cpu_s": statistics.median(StepTimer.timer.seconds[1:]),
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "losses": [entry["loss"] for entry in state["log_history"] if "loss" in entry],
    }


def in_fresh_process(folder: Path, what: str, words: list[str]) -> dict[str, Any]:
    """What a process of its own prints."""
    command = [sys.executable, __file__, *words, "--part", str(folder), what]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    start = time.perf_counter()
    result = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{what} failed:\n{(result.stdout + result.stderr)[-4000:]}")
    found: dict[str, Any] = json.loads(result.stdout.strip().splitlines()[-1])
    return {**found, "wall_s": time.perf_counter() - start}


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab", type=int, default=151_936)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8, help="sequences in a step")
    parser.add_argument("--length", type=int, default=256, help="tokens of the longest sequence")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--part", nargs=2, metavar=("FOLDER", "WHAT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        folder, what = Path(arguments.part[0]), arguments.part[1]
        found = {} if what == "reference" else measure_here(folder, what, arguments)
        if what == "reference":
            make_reference(folder, arguments)
        print("\n" + json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as name:
        write_inputs(Path(name), arguments)
        in_fresh_process(Path(name), "reference", sys.argv[1:])
        cache, two = (in_fresh_process(Path(name), arm, sys.argv[1:]) for arm in ARMS)
    worst = max(abs(a - b) / abs(b) for a, b in zip(cache["losses"], two["losses"], strict=True))
    report = {
        "versions": {name: version(name) for name in ("torch", "transformers", "llamafactory", "dft-plugin")},
        "shape": {key: getattr(arguments, key) for key in ("vocab", "hidden", "batch", "length", "steps")},
        "loss_relative_difference": worst,
        "step_time_ratio": round(cache["step_cpu_s"] / two["step_cpu_s"], 3),
        "memory_ratio": round(cache["peak_rss_mib"] / two["peak_rss_mib"], 3),
        "peak_rss_mib": round(cache["peak_rss_mib"]),
        "two_models_peak_rss_mib": round(two["peak_rss_mib"]),
        "losses": cache["losses"],
        "two_models_losses": two["losses"],
    }
    print(json.dumps(report) if arguments.json else "\n".join(f"{key}: {value}" for key, value in report.items()))


if __name__ == "__main__":
    main()
