"""Distance of low-precision gradients from float64 on real hidden states, wherever the logits lie.

    python tests/benchmarks/precision.py --json

SmolLM2-135M-Instruct on GSM8K answers (see tests/real_states.py). A constant column moves all logits by `shift`, which
no softmax sees; its own gradient is not counted. Columns: relative distance of dH and dW for `linear_loss`, and for
DFT and cross-entropy on full logits in the same dtype, as training frameworks write them ("native").
Target: 4e-3 in bfloat16 for every objective and shift.
"""

import argparse
import importlib.metadata
import json
import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as fn

sys.path.insert(0, str(Path(__file__).parents[2]))
from dft_plugin import OBJECTIVES, linear_loss
from tests.real_states import RealStates, real_states

LIMITS = {"bfloat16": 4e-3, "float16": 6e-4}


def gradients(states: RealStates, dtype: torch.dtype, objective: str, *, is_native: bool = False) -> list[Tensor]:
    """Of hidden states and head, without the column of the shift."""
    hidden, weight = (x.to(dtype, copy=True).requires_grad_() for x in states[:2])
    if is_native:
        nll = fn.cross_entropy(fn.linear(hidden, weight).float(), states.targets, reduction="none")
        loss = (nll * (torch.exp(-nll).detach() if objective == "dft" else 1)).mean()
    else:
        loss = linear_loss(hidden, weight, states.targets, shift=False, objective=objective).loss
    loss.backward()
    return [x.grad[:, :-1].double() for x in (hidden, weight)]


def shifted(states: RealStates, shift: float, dtype: torch.dtype) -> RealStates:
    ones = states.hidden.new_ones(states.hidden.shape[0], 1)
    column = torch.full_like(states.weight[:, :1], shift)
    hidden, weight = torch.cat((states.hidden, ones), 1), torch.cat((states.weight, column), 1)
    return RealStates(hidden.to(dtype), weight.to(dtype), states.targets)


def measure(states: RealStates, args: argparse.Namespace) -> list[dict[str, object]]:
    dtype, rows = getattr(torch, args.dtype), []
    for objective in args.objectives:
        truth = gradients(shifted(states, 0, dtype), torch.float64, objective)
        for shift in args.shifts:
            row: dict[str, object] = {"objective": objective, "shift": shift}
            for name in ("ours", *(["native"] if objective in ("dft", "sft") else [])):
                found = gradients(shifted(states, shift, dtype), dtype, objective, is_native=name == "native")
                row[name] = {
                    part: float((a - b).norm() / b.norm())
                    for part, a, b in zip(("dh", "dw"), found, truth, strict=True)
                }
            rows.append(row)
    return rows


def show(rows: list[dict[str, object]], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for column in ("objective", "shift", "dH", "dW", "native dH", "native dW"):
        table.add_column(column)
    for row in rows:
        cells = [
            f"{row[name][part]:.1e}" if name in row else "" for name in ("ours", "native") for part in ("dh", "dw")
        ]
        table.add_row(str(row["objective"]), str(row["shift"]), *cells)
    Console().print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--dtype", choices=[*LIMITS], default="bfloat16")
    parser.add_argument(
        "--objectives", nargs="+", choices=sorted(OBJECTIVES), default=["dft", "sft", "eaft", "deft"], metavar="NAME"
    )
    parser.add_argument("--shifts", nargs="+", type=float, default=[0, 64, 128])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--assert-targets", action="store_true", help="exit 1 where a target is missed")
    args = parser.parse_args()
    torch.set_num_threads(1)
    states = real_states(args.tokens)
    if states is None:
        print("needs the network for the model, and DFT_DATA_DIR with gsm8k", file=sys.stderr)
        return 3
    rows = measure(states, args)
    limit = LIMITS[args.dtype]
    missed = [row for row in rows if max(row["ours"].values()) > limit]
    result = {
        "rows": rows,
        "limit": limit,
        "missed_targets": missed,
        "dtype": args.dtype,
        "tokens": args.tokens,
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "dft-plugin")},
    }
    if args.json:
        print(json.dumps(result))
    else:
        show(rows, f"relative distance from float64, {args.dtype}, {args.tokens} tokens")
    return 1 if missed and args.assert_targets else 0


if __name__ == "__main__":
    sys.exit(main())
