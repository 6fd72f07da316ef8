"""Inputs of `yaml_examples/study/toy.yaml`: a tiny model with random weights and the toy world's training files.

    python -m dft_plugin.demo.toy_study runs/toy

The toy benchmarks of `dft eval` ask about the same world.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from dft_eval.tasks.toy import demonstrate
from dft_eval.tasks.toy_benchmarks import SEED
from dft_plugin.demo.data import Recipe, write_jsonl, write_plan
from dft_plugin.demo.tiny_model import write_tiny_model


def write_inputs(out: Path, recipe: Recipe | None = None) -> None:
    """Write `init/`, `dataset_info.json`, `base.jsonl`, `mixed.jsonl` and `held_out.jsonl` into `out`.

    Args:
        out: The folder.
        recipe: Sizes; None takes the demo's. The world's own sizes may not differ from the benchmarks'.
    """
    plan = write_plan(SEED, out, recipe or Recipe(), with_swift=False)
    for path in (out / plan.folder / "data").iterdir():
        path.replace(out / path.name)
    shutil.rmtree(out / plan.folder)
    write_jsonl(out / "held_out.jsonl", (demonstrate(problem).messages() for problem in plan.additions))
    write_tiny_model(out / "init", SEED)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    write_inputs(parser.parse_args().out)
