"""Runs of the real ms-swift: many in one process, some through its command line."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.integrations import tiny
from tests.integrations.warm_process import freeze_imports

ROOT = Path(__file__).parents[2]
CLI = Path(sys.executable).with_name("swift")

if importlib.util.find_spec("swift") is not None and "MODELSCOPE_CACHE" not in os.environ:
    # Private caches, read when swift is imported; the processes we start inherit them.
    _CACHE = tempfile.TemporaryDirectory(prefix="dft-swift-")
    os.environ.update(MODELSCOPE_CACHE=f"{_CACHE.name}/modelscope", HF_HOME=f"{_CACHE.name}/huggingface")


def write_data(folder: Path, count: int = 48) -> Path:
    """`toy` (chat), `react` (agent text, for loss scales), `pt` (plain text), and `masked`.

    The second question of `masked` alone is longer than `max_length`: cut to it, no label is left.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = tiny.samples(count)

    def chat(question: str, answer: str) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}

    react = [f"Thought: {r['answer']}\nAction: add\nAction Input: 1\nFinal Answer: {i}" for i, r in enumerate(rows)]
    files = {
        "toy": [{**chat(r["question"], r["answer"]), "channel": f"c{i % 2}"} for i, r in enumerate(rows)],
        "react": [chat(r["question"], answer) for r, answer in zip(rows, react, strict=True)],
        "pt": [{"messages": [{"role": "assistant", "content": r["question"] + r["answer"]}]} for r in rows],
        "masked": [chat(r["question"] * (9 if i == 1 else 1), r["answer"]) for i, r in enumerate(rows)],
    }
    for name, records in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def config(model: Path, dataset: Path, output_dir: Path, **overrides: Any) -> dict[str, Any]:
    """A complete tiny training configuration."""
    settings = {
        "model": str(model),
        "model_type": "qwen2",
        "template": "qwen",
        "dataset": str(dataset),
        "output_dir": str(output_dir),
        "tuner_type": "full",
        "torch_dtype": "float32",
        "fp16": False,
        "bf16": False,
        "attn_impl": "eager",
        "max_length": 256,
        "truncation_strategy": "right",
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "max_steps": 3,
        "learning_rate": 1e-3,  # Adam turns rounding into whole steps: a larger rate would measure that
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "check_model": False,
        "add_version": False,
        "split_dataset_ratio": 0,
        "dataset_shuffle": False,
        "train_dataloader_shuffle": False,
        "dataloader_num_workers": 0,
        "load_from_cache_file": False,
        "dataset_num_proc": 1,
    }
    return {**settings, **overrides}


def arguments(settings: dict[str, Any]) -> list[str]:
    """The settings as command line arguments, the way swift turns a YAML file into them."""
    flags = []
    for key, value in settings.items():
        values = value if isinstance(value, list) else [json.dumps(value) if isinstance(value, dict) else str(value)]
        flags += [f"--{key}", *values]
    return flags


def run_in_process(settings: dict[str, Any], *, stage: str = "sft") -> list[dict[str, float]]:
    """One run by swift's own pipeline; returns a training's logged steps at full precision, or the answers."""
    from accelerate.state import AcceleratorState
    from swift import pipelines

    AcceleratorState._reset_state(True)
    freeze_imports()
    if stage == "infer":
        return pipelines.infer_main(arguments(settings))
    main = {"sft": pipelines.sft_main, "pt": pipelines.pretrain_main, "rlhf": pipelines.rlhf_main}[stage]
    return main(arguments(settings))["log_history"]


def run_cli(command: list[str], *, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    """The real `swift COMMAND ...`."""
    return subprocess.run(
        [str(CLI), *command],
        env={**os.environ, "PATH": f"{CLI.parent}{os.pathsep}{os.environ['PATH']}", **(env or {})},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def free_port() -> int:
    """A port nobody listens on, so that test runs side by side do not meet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_elsewhere(
    jobs: list[tuple[str, dict[str, Any]]],
    folder: Path,
    *,
    ranks: int = 1,
    env: dict[str, str] | None = None,
    first_on_path: tuple[str, ...] = (),
) -> list[list[dict[str, Any]]]:
    """Each (stage, settings) by `run_in_process`, one after another in fresh processes that are started once."""
    files = folder / "jobs.json", folder / "results.json"
    files[0].write_text(json.dumps(jobs))
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "--master-port", str(free_port())]
    result = subprocess.run(
        [sys.executable, *(launcher if ranks > 1 else []), "-m", __name__, *map(str, files)],
        cwd=folder,
        env={**os.environ, **(env or {}), "PYTHONPATH": os.pathsep.join([*first_on_path, str(ROOT)])},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-6000:]
    return json.loads(files[1].read_text())


def logged(output_dir: Path, key: str = "loss") -> list[dict[str, Any]]:
    """The lines of swift's `logging.jsonl` that carry `key`."""
    lines = [json.loads(line) for line in (output_dir / "logging.jsonl").read_text().splitlines()]
    return [line for line in lines if key in line]


if __name__ == "__main__":
    results = [run_in_process(job, stage=stage) for stage, job in json.loads(Path(sys.argv[1]).read_text())]
    if os.environ.get("RANK", "0") == "0":
        Path(sys.argv[2]).write_text(json.dumps(results))
