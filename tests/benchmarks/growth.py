"""Time and memory of `linear_loss` as micro-batches grow: linear in the rows, and flat.

    python tests/benchmarks/growth.py --json

Seconds for each kept row and vocabulary column, and the high-water mark above the level before the step less the
gradient of the hidden states, which every loss must return; the head's gradient counts. Both relative to the smallest
size, which takes turns with each of the others so that a busy machine slows both. Targets: time within 5%, memory
within 10%.
"""

import argparse
import importlib.metadata
import json
import statistics
import subprocess
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.benchmarks import linear_loss as bench
from tests.benchmarks.emulation import is_emulated


def settings(args: argparse.Namespace, rows: int) -> argparse.Namespace:
    return argparse.Namespace(
        tokens=rows,
        hidden=args.hidden,
        vocab=args.vocab,
        kept=1.0,
        dtype=args.dtype,
        device=args.device,
        frozen_head=args.frozen_head,
        real=False,
    )


def peak_extra_mib(args: argparse.Namespace, rows: int) -> float:
    """In a process of its own, without the gradient of the hidden states."""
    command = [sys.executable, __file__, *sys.argv[1:], "--peak-of", str(rows)]
    peak = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return peak - rows * args.hidden * getattr(torch, args.dtype).itemsize / bench.MIB


def time_ratio(args: argparse.Namespace, rows: int) -> float:
    """Seconds per row of `rows` rows over those of the smallest size."""
    small, large = (bench.make_inputs(settings(args, size)) for size in (args.rows[0], rows))
    loss, found = bench.LOSSES["dft"], []
    bench.step(loss, small)
    repeats = max(1, min(8, rows // args.rows[0] // 2))
    for _ in range(args.rounds):
        seconds = []
        for inputs, times in ((small, repeats), (large, 1), (small, repeats)):
            seconds.append(sum(bench.seconds(lambda x=inputs: bench.step(loss, x), args.device) for _ in range(times)))
        per_small_row = (seconds[0] + seconds[2]) / (2 * repeats * args.rows[0])
        found.append(seconds[1] / rows / per_small_row)
    return statistics.median(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1024, 4096, 16384, 65536])
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--vocab", type=int, default=16384)
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--frozen-head", action="store_true")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--assert-targets", action="store_true", help="exit 1 where a target is missed")
    parser.add_argument("--peak-of", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.peak_of:
        print(bench.peak_of_this_process(settings(args, args.peak_of), "dft"))
        return 0
    if is_emulated(args.dtype, args.device):
        return 3
    table = []
    for rows in args.rows:
        peak = peak_extra_mib(args, rows)
        ratio = 1.0 if rows == args.rows[0] else time_ratio(args, rows)
        first = table[0]["peak_extra_mib"] if table else peak
        table.append(
            {
                "rows": rows,
                "time_per_row_ratio": round(ratio, 3),
                "peak_extra_mib": round(peak, 1),
                "memory_ratio": round(peak / first, 3),
            }
        )
        print(table[-1], file=sys.stderr)
    missed = [row for row in table if row["time_per_row_ratio"] > 1.05 or row["memory_ratio"] > 1.10]
    result = {
        "table": table,
        "missed_targets": missed,
        "shape": {"hidden": args.hidden, "vocab": args.vocab, "dtype": args.dtype},
        "is_head_trained": not args.frozen_head,
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "dft-plugin")},
    }
    print(json.dumps(result) if args.json else "\n".join(map(str, table)))
    return 1 if missed and args.assert_targets else 0


if __name__ == "__main__":
    sys.exit(main())
