"""Everything that only a GPU can show, in one command: speed and memory against every rival, and correctness.

    python tests/benchmarks/gpu.py --out gpu_out

Writes gpu.json and gpu.md into the folder. Takes under ten minutes on one Hopper card. Shapes: those by which other
kernels were published (8192 x 4096 x 151936, target 52 ms on an H100; 4096 x 4096 x 128256, target 700 TFLOP/s), one of
a vision-language model with few kept tokens, and one with a frozen head as under LoRA. Each is a run of linear_loss.py;
rivals that are not installed are listed by name. Then the tests marked `gpu`: the Triton kernel on the device, and the
waits of a loss call by torch's own counter. Exit code 1 where a test failed, 3 without a GPU.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[2]
RIVALS = ["native", "trl", "torch", "liger", "liger_scaled", "cce"]
# name -> options, targets: seconds of forward and backward, and TFLOP/s of its three products
SHAPES: dict[str, tuple[list[str], dict[str, float]]] = {
    "8192 x 4096 x 151936": (
        ["--tokens", "8192", "--hidden", "4096", "--vocab", "151936", "--kept", "1"],
        {"seconds": 0.052},
    ),
    "4096 x 4096 x 128256": (
        ["--tokens", "4096", "--hidden", "4096", "--vocab", "128256", "--kept", "1"],
        {"tflops": 700},
    ),
    "vision-language, 10% kept": (
        ["--tokens", "16384", "--hidden", "2048", "--vocab", "151936", "--kept", "0.1"],
        {},
    ),
    "LoRA, frozen head, 30% kept": (
        ["--tokens", "8192", "--hidden", "3584", "--vocab", "152064", "--kept", "0.3", "--frozen-head"],
        {},
    ),
}


def run_shape(options: list[str], bound: float) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "tests" / "benchmarks" / "linear_loss.py"), *options, "--device", "cuda"]
    command += ["--gradient-filter", str(bound), "--against", *RIVALS, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": done.stderr[-2000:]}
    found: dict[str, Any] = json.loads(done.stdout)
    seconds, shape = found["seconds"]["dft"], found["shape"]
    products = 3 if found["is_head_trained"] else 2
    found["tflops"] = 2 * products * shape["kept"] * shape["hidden"] * shape["vocab"] / seconds / 1e12
    return found


def run_tests() -> dict[str, Any]:
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/core"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return {"command": " ".join(command[1:]), "exit_code": done.returncode, "tail": done.stdout[-3000:]}


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = [f"# Fused loss on {result['device']}", "", f"torch {torch.__version__}, `{result['command']}`", ""]
    lines += [
        "| shape | candidate | ms | TFLOP/s | over bare products | extra MiB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, found in result["shapes"].items():
        if "failed" in found:
            lines.append(f"| {name} | failed: {found['failed'].splitlines()[-1]} | | | | |")
            continue
        seconds = found["seconds"]
        work = found["tflops"] * seconds["dft"]
        peaks = {"dft": found["peak_extra_mib"]}
        peaks |= {key: value["peak_extra_mib"] for key, value in found["rivals"].items() if "skipped" not in value}
        for candidate, taken in seconds.items():
            cells = [f"{1e3 * taken:.1f}", f"{work / taken:.0f}", f"{taken / seconds['floor']:.2f}"]
            lines.append(f"| {name} | {candidate} | {' | '.join(cells)} | {peaks.get(candidate, '')} |")
        for rival, value in found["rivals"].items():
            if "skipped" in value:
                lines.append(f"| {name} | {rival} | skipped: {value['skipped']} | | | |")
    lines += ["", *(f"- missed: {line}" for line in result["missed_targets"] or ["none"])]
    lines += ["", f"Tests on the device (`{result['tests']['command']}`): exit code {result['tests']['exit_code']}", ""]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu_out"))
    parser.add_argument("--bound", type=float, default=0.125, help="of the filtered candidate")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("torch sees no GPU here; nothing was measured", file=sys.stderr)
        return 3
    result: dict[str, Any] = {
        "device": torch.cuda.get_device_name(),
        "command": " ".join(sys.argv),
        "shapes": {},
        "missed_targets": [],
    }
    result["tests"] = run_tests()
    for name, (options, targets) in SHAPES.items():
        found = result["shapes"][name] = run_shape(options, args.bound)
        if "failed" in found:
            result["missed_targets"].append(f"{name}: failed")
            continue
        if found["seconds"]["dft"] > targets.get("seconds", float("inf")):
            result["missed_targets"].append(f"{name}: {found['seconds']['dft']:.4f} s > {targets['seconds']} s")
        if found["tflops"] < targets.get("tflops", 0):
            result["missed_targets"].append(f"{name}: {found['tflops']:.0f} TFLOP/s < {targets['tflops']}")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "gpu.json").write_text(json.dumps(result, indent=1))
    (args.out / "gpu.md").write_text(table(result))
    print(table(result))
    return 1 if result["tests"]["exit_code"] else 0


if __name__ == "__main__":
    sys.exit(main())
