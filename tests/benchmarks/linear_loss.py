"""Time, memory and accuracy of `linear_loss`, as ratios to what it replaces, measured in one run.

    python tests/benchmarks/linear_loss.py --tokens 4096 --hidden 896 --vocab 151936 --kept 0.3 --dtype bfloat16 \
        --against native trl torch --json

Each measurement is one forward and backward; `--kept` of the tokens carry a label. Time: process CPU time with one
thread, or CUDA events; all candidates take turns within a round, ratios are formed per round, and the median over
rounds is reported (with the 20th and 80th percentile). Memory: every candidate runs once in a fresh process of its
own, so that no allocator's cache hides anything: the high-water mark of the resident set (`VmHWM`, reset through
/proc/self/clear_refs), or torch.cuda.max_memory_allocated, above its level before the step. The gradients count.

- floor: the three matrix products of the kept tokens alone (two with --frozen-head), the gradients in new memory as
  every backward must, the logits in a buffer made beforehand.
- native: DFT as training frameworks write it: all logits, float32 cross-entropy, times exp(-nll).
- trl: DFT in the style of TRL's chunked NLL: kept tokens, 256 at a time, float32 product, checkpointed.
- torch: torch.nn.functional.linear_cross_entropy, chunked. Plain cross-entropy: it has no token weights.
- liger: LigerFusedLinearCrossEntropy with use_token_scaling; CUDA only.
- liger_scaled: Liger's LigerFusedLinearScaledCrossEntropyFunction (CuTe on Hopper), nll of each token, weighted; CUDA.
- cce: cut-cross-entropy, nll of each token with no gradient filter, weighted; CUDA only.

`--gradient-filter BOUND` also measures DFT with that filter, `--real` uses hidden states, head and targets of
SmolLM2-135M-Instruct on GSM8K answers: filters need real data to be judged by.

Ratios above 1 mean that `linear_loss` is faster, or smaller. Accuracy: relative distance from float64 of loss and
gradients, at 256 tokens and at most 16384 words, half of the targets probable.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as fn
from torch.utils.checkpoint import checkpoint

sys.path.insert(0, str(Path(__file__).parents[2]))
from dft_plugin import OBJECTIVES, linear_loss
from dft_plugin.core.linear_loss import default_chunk_size
from tests.benchmarks.emulation import is_emulated

IGNORE = -100
RIVALS = ("native", "trl", "torch", "liger", "liger_scaled", "cce")
MIB = 2**20


class Inputs(NamedTuple):
    hidden: Tensor
    weight: Tensor
    targets: Tensor

    def clear(self) -> None:
        self.hidden.grad = self.weight.grad = None


Loss = Callable[[Inputs], Tensor]


def fused(objective: str, bound: float | None = None) -> Loss:
    return lambda x: (
        linear_loss(x.hidden, x.weight, x.targets, shift=False, objective=objective, gradient_filter=bound).loss
    )


def native(x: Inputs) -> Tensor:
    logits = fn.linear(x.hidden, x.weight).to(torch.promote_types(x.hidden.dtype, torch.float32))
    nll = fn.cross_entropy(logits, x.targets, ignore_index=IGNORE, reduction="none")
    return (nll * torch.exp(-nll).detach()).sum() / (x.targets != IGNORE).sum()


def trl_style(x: Inputs) -> Tensor:
    def chunk_loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        logits = hidden.float() @ weight.t()
        nll = logits.logsumexp(-1) - logits.gather(-1, targets[:, None]).squeeze(-1)
        return (nll * torch.exp(-nll).detach()).sum()

    kept = x.targets != IGNORE
    weight = x.weight.float()
    chunks = zip(x.hidden[kept].split(256), x.targets[kept].split(256), strict=True)
    losses = [checkpoint(chunk_loss, hidden, weight, targets, use_reentrant=False) for hidden, targets in chunks]
    return torch.stack(losses).sum() / kept.sum()


def torch_chunked(x: Inputs) -> Tensor:
    options = torch.nn.LinearCrossEntropyOptions()
    return fn.linear_cross_entropy(x.hidden, x.weight, x.targets, ignore_index=IGNORE, options=options)


def liger(x: Inputs) -> Tensor:
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

    options = {"ignore_index": IGNORE, "use_token_scaling": True}
    return liger_fused_linear_cross_entropy(x.hidden, x.weight, x.targets, **options)


def liger_scaled(x: Inputs) -> Tensor:
    from liger_kernel.ops import LigerFusedLinearScaledCrossEntropyFunction

    nll = LigerFusedLinearScaledCrossEntropyFunction.apply(x.hidden, x.weight, x.targets)
    return (nll * torch.exp(-nll).detach()).sum() / (x.targets != IGNORE).sum()


def cce(x: Inputs) -> Tensor:
    from cut_cross_entropy import linear_cross_entropy

    options = {"ignore_index": IGNORE, "reduction": "none", "filter_eps": None}
    nll = linear_cross_entropy(x.hidden, x.weight, x.targets, **options)
    return (nll * torch.exp(-nll).detach()).sum() / (x.targets != IGNORE).sum()


LOSSES: dict[str, Loss] = {
    **{name: fused(name) for name in OBJECTIVES},
    "native": native,
    "trl": trl_style,
    "torch": torch_chunked,
    "liger": liger,
    "liger_scaled": liger_scaled,
    "cce": cce,
}
PACKAGES = {"liger": "liger-kernel", "liger_scaled": "liger-kernel", "cce": "cut-cross-entropy"}


def reason_to_skip(rival: str, device: str) -> str | None:
    if rival in PACKAGES and device == "cpu":
        return f"{PACKAGES[rival]}'s kernels need a GPU"
    if rival in PACKAGES and importlib.util.find_spec(PACKAGES[rival].replace("-", "_")) is None:
        return f"not installed: pip install {PACKAGES[rival]}"
    if rival == "torch" and not hasattr(fn, "linear_cross_entropy"):
        return f"torch {torch.__version__} has no linear_cross_entropy; 2.13 has"
    return None


def make_inputs(args: argparse.Namespace) -> Inputs:
    generator = torch.Generator().manual_seed(0)
    dtype = getattr(torch, args.dtype)
    if args.real:
        return real_inputs(args, dtype, generator)

    def normal(rows: int) -> Tensor:
        return torch.randn(rows, args.hidden, generator=generator).to(args.device, dtype)

    weight = normal(args.vocab).mul_(args.hidden**-0.5).requires_grad_(not args.frozen_head)
    targets = torch.randint(args.vocab, (args.tokens,), generator=generator)
    targets[torch.randperm(args.tokens, generator=generator)[round(args.kept * args.tokens) :]] = IGNORE
    return Inputs(normal(args.tokens).requires_grad_(), weight, targets.to(args.device))


def real_inputs(args: argparse.Namespace, dtype: torch.dtype, generator: torch.Generator) -> Inputs:
    """Answer tokens of GSM8K; the masked ones between them are copies."""
    from tests.real_states import real_states

    kept = round(args.kept * args.tokens)
    states = real_states(kept)
    if states is None:
        raise SystemExit("--real needs the network for the model, and DFT_DATA_DIR with gsm8k")
    rows = torch.randperm(args.tokens, generator=generator)[:kept].sort().values
    hidden = states.hidden[torch.arange(args.tokens) % kept].index_copy(0, rows, states.hidden)
    targets = torch.full((args.tokens,), IGNORE).index_copy(0, rows, states.targets)
    weight = states.weight.to(args.device, dtype).requires_grad_(not args.frozen_head)
    return Inputs(hidden.to(args.device, dtype).requires_grad_(), weight, targets.to(args.device))


def step(loss: Loss, inputs: Inputs) -> None:
    inputs.clear()
    loss(inputs).backward()


def gemm_floor(inputs: Inputs, *, is_head_trained: bool) -> Callable[[], None]:
    hidden = inputs.hidden.detach()[inputs.targets != IGNORE]
    weight = inputs.weight.detach()
    logits = hidden.new_zeros(hidden.shape[0], weight.shape[0])

    def products() -> None:
        torch.mm(hidden, weight.t(), out=logits)
        torch.mm(logits, weight)
        if is_head_trained:
            torch.mm(logits.t(), hidden)

    return products


def seconds(run: Callable[[], None], device: str) -> float:
    if device == "cpu":
        start = time.process_time()
        run()
        return time.process_time() - start
    start_event, end_event = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start_event.record()
    run()
    end_event.record()
    torch.cuda.synchronize()
    return start_event.elapsed_time(end_event) / 1e3


def measure_times(args: argparse.Namespace, rivals: list[str]) -> dict[str, list[float]]:
    """Seconds of each candidate, round by round."""
    inputs = make_inputs(args)
    runs: dict[str, Callable[[], None]] = {"floor": gemm_floor(inputs, is_head_trained=not args.frozen_head)}
    losses = LOSSES | {"filtered": fused("dft", args.gradient_filter)}
    own = ("dft", "sft", *(["filtered"] if args.gradient_filter else []))
    for name in (*own, *args.objectives, *rivals):
        runs[name] = lambda loss=losses[name]: step(loss, inputs)
    for name, run in runs.items():
        # on a CPU a rival's first step is no slower than its next, and takes up to minutes
        for _ in range(3 if args.device == "cuda" else int(name not in rivals)):
            seconds(run, args.device)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for index in range(args.rounds):
        for name, run in runs.items():
            # a rival that is several times slower needs fewer rounds to be told apart
            if name not in rivals or args.device == "cuda" or index < args.rival_rounds:
                times[name].append(seconds(run, args.device))
    return times


def resident_mib(field: str) -> float:
    match = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None
    return int(match[1]) / 1024


def peak_of_this_process(args: argparse.Namespace, name: str) -> float:
    """MiB above the level before the step; what libraries load once is loaded by a step on 2 tokens before."""
    inputs = make_inputs(args)
    small = inputs._replace(hidden=inputs.hidden[:2].detach().requires_grad_(), targets=inputs.targets[:2].clamp(min=0))
    tiny_head = small._replace(weight=inputs.weight.detach()[:512].clone().requires_grad_())
    step(LOSSES[name], tiny_head._replace(targets=tiny_head.targets.clamp(max=511)))
    if args.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(LOSSES[name], inputs)
        return (torch.cuda.max_memory_allocated() - before) / MIB
    Path("/proc/self/clear_refs").write_text("5")
    before_mib = resident_mib("VmRSS")
    step(LOSSES[name], inputs)
    return resident_mib("VmHWM") - before_mib


def measure_peak(name: str) -> float:
    command = [sys.executable, __file__, *sys.argv[1:], "--peak-of", name]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure_errors(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    generator = torch.Generator().manual_seed(0)
    dtype, vocab = getattr(torch, args.dtype), min(args.vocab, 16384)
    weight = torch.randn(vocab, args.hidden, generator=generator) / args.hidden**0.5
    targets = torch.randint(vocab, (256,), generator=generator)
    pull = torch.cat((torch.zeros(128, 1), 20 * torch.rand(128, 1, generator=generator)))
    hidden = torch.randn(256, args.hidden, generator=generator) + pull * weight[targets]
    values = {}
    for name, loss, kind in (
        ("truth", native, torch.float64),
        ("dft", LOSSES["dft"], dtype),
        ("native", native, dtype),
    ):
        leaves = [x.to(args.device, dtype).to(kind, copy=True).requires_grad_() for x in (hidden, weight)]
        result = loss(Inputs(leaves[0], leaves[1], targets.to(args.device)))
        result.backward()
        values[name] = [x.double() for x in (result.detach(), leaves[0].grad, leaves[1].grad)]
    return {
        name: {
            part: float((value - truth).norm() / truth.norm())
            for part, value, truth in zip(("loss", "dh", "dw"), values[name], values["truth"], strict=True)
        }
        for name in ("dft", "native")
    }


def measure_filter(args: argparse.Namespace) -> dict[str, float]:
    """Share of the columns that stay, and the filter's own error, without rounding: both in float32."""
    inputs = make_inputs(args)
    leaves = [inputs.hidden.detach().float().requires_grad_() for _ in range(2)]
    weight = inputs.weight.detach().float()
    outputs = [
        linear_loss(leaf, weight, inputs.targets, shift=False, gradient_filter=bound)
        for leaf, bound in zip(leaves, (None, args.gradient_filter), strict=True)
    ]
    for output in outputs:
        output.loss.backward()
    exact, filtered = (leaf.grad for leaf in leaves)
    return {
        "bound": args.gradient_filter,
        "kept_columns": round(outputs[1].kept_columns, 4),
        "own_error_of_dh": float((filtered - exact).norm() / exact.norm()),
    }


def ratios(numerator: list[float], denominator: list[float]) -> tuple[float, list[float]]:
    """Median over rounds, and the 20th and 80th percentile."""
    values = [a / b for a, b in zip(numerator, denominator, strict=False)]
    spread = statistics.quantiles(values, n=5, method="inclusive") if len(values) > 1 else values * 4
    return round(statistics.median(values), 3), [round(spread[0], 3), round(spread[3], 3)]


def measure(args: argparse.Namespace) -> dict[str, object]:
    skipped = {name: reason for name in args.against if (reason := reason_to_skip(name, args.device))}
    rivals = [name for name in args.against if name not in skipped]
    peaks = {name: round(measure_peak(name), 1) for name in ("dft", *rivals)}
    errors = measure_errors(args)
    times = measure_times(args, rivals)
    over_floor, floor_spread = ratios(times["dft"], times["floor"])
    over_plain, plain_spread = ratios(times["dft"], times["sft"])
    floor_s = statistics.median(times["floor"])
    products = 2 if args.frozen_head else 3
    kept = round(args.kept * args.tokens)
    result: dict[str, object] = {
        "time_over_gemm_floor": over_floor,
        "dft_over_plain": over_plain,
        "peak_extra_mib": peaks["dft"],
        "rivals": {name: {"skipped": reason} for name, reason in skipped.items()},
        "objectives": {},
        "percentiles_20_80": {"time_over_gemm_floor": floor_spread, "dft_over_plain": plain_spread},
        "seconds": {name: round(statistics.median(values), 5) for name, values in times.items()},
        "rounds": {name: len(values) for name, values in times.items()},
        "floor_tflops": round(2 * products * kept * args.hidden * args.vocab / floor_s / 1e12, 3),
        "errors_from_float64": errors,
        "is_head_trained": not args.frozen_head,
        "dtype": args.dtype,
        "shape": {"tokens": args.tokens, "kept": kept, "hidden": args.hidden, "vocab": args.vocab},
        "chunk_size": default_chunk_size(
            torch.empty(1, args.hidden, device=args.device), is_head_trained=not args.frozen_head
        ),
        "device": torch.cuda.get_device_name() if args.device == "cuda" else f"{platform.machine()} CPU, 1 thread",
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "dft-plugin")}
        | {"python": platform.python_version()},
    }
    if args.gradient_filter:
        ratio, spread = ratios(times["filtered"], times["floor"])
        result["filtered"] = {"time_over_gemm_floor": ratio, "percentiles_20_80": spread, **measure_filter(args)}
    for name in args.objectives:
        ratio, spread = ratios(times[name], times["sft"])
        result["objectives"][name] = {"time_over_plain": ratio, "time_over_plain_20_80": spread}
    for name in rivals:
        ratio, spread = ratios(times[name], times["dft"])
        result["rivals"][name] = {
            "time_ratio": ratio,
            "time_ratio_20_80": spread,
            "peak_extra_mib": peaks[name],
            "memory_ratio": round(peaks[name] / peaks["dft"], 2),
        }
    return result


def missed_targets(args: argparse.Namespace, result: dict[str, object]) -> list[str]:
    """The targets of this shape that were not reached; memory and native's ratios belong to the shape of the README."""
    ours, theirs = (result["errors_from_float64"][name] for name in ("dft", "native"))
    limits = [
        (
            "time_over_gemm_floor",
            result["time_over_gemm_floor"],
            1.25 if args.device == "cuda" else (1.10, 1.15)[args.frozen_head],
        ),
        ("dft_over_plain", result["dft_over_plain"], 1.02),
        *(
            [("filtered over floor", result["filtered"]["time_over_gemm_floor"], 0.85)]
            if "filtered" in result and args.real and args.device == "cpu"
            else []
        ),
        *((f"error of {part}", ours[part], max(theirs[part], 5e-6)) for part in ours),
    ]
    if "eaft" in result["objectives"]:
        limits.append(("eaft over plain", result["objectives"]["eaft"]["time_over_plain"], 1.10))
    if args.dtype == "bfloat16":
        limits.append(("error of dh against 0.6 of native's", ours["dh"], 0.6 * theirs["dh"]))
    if args.dtype == "float32":
        limits.append(("error of dh", ours["dh"], 5e-6))
    is_readme_shape = (args.tokens, args.hidden, args.vocab, args.kept) == (4096, 896, 151936, 0.3)
    if is_readme_shape and args.device == "cpu":
        limit_mib = 100 if args.frozen_head else {"float32": 850}.get(args.dtype, 450)
        limits.append(("peak_extra_mib", result["peak_extra_mib"], limit_mib))
        if "time_ratio" in (rival := result["rivals"].get("native", {})) and args.dtype == "bfloat16":
            limits.append(("1 / time_ratio of native", 1 / rival["time_ratio"], 1 / 2.5))
            limits.append(
                ("1 / memory_ratio of native", 1 / rival["memory_ratio"], 1 / (70 if args.frozen_head else 16))
            )
    return [f"{name} = {value:.4g}, target <= {limit:.4g}" for name, value, limit in limits if value > limit]


def show(result: dict[str, object]) -> None:
    from rich.console import Console
    from rich.table import Table

    shape = ", ".join(f"{name} {size}" for name, size in result["shape"].items())
    table = Table(title=f"linear_loss (DFT): {shape}, {result['dtype']}, {result['device']}")
    for column in ("", "time ratio", "20-80 %", "peak extra MiB", "memory ratio"):
        table.add_column(column, justify="left" if not column else "right")
    spreads = result["percentiles_20_80"]
    table.add_row(
        "over GEMM floor",
        str(result["time_over_gemm_floor"]),
        str(spreads["time_over_gemm_floor"]),
        str(result["peak_extra_mib"]),
        "",
    )
    table.add_row("over plain CE", str(result["dft_over_plain"]), str(spreads["dft_over_plain"]), "", "")
    if "filtered" in result:
        ratio, spread, *others = result["filtered"].values()
        title = "filtered over GEMM floor (bound {}, {:.1%} of columns, dH {:.1e} off)".format(*others)
        table.add_row(title, str(ratio), str(spread), "", "")
    for name, found in result["objectives"].items():
        table.add_row(f"{name} over plain CE", *map(str, found.values()), "", "")
    for name, rival in result["rivals"].items():
        cells = [f"skipped: {rival['skipped']}"] if "skipped" in rival else [str(value) for value in rival.values()]
        table.add_row(f"{name} over ours", *cells)
    Console().print(table)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--hidden", type=int, default=896)
    parser.add_argument("--vocab", type=int, default=151936)
    parser.add_argument("--kept", type=float, default=0.3, help="share of the tokens that carry a label")
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16")
    parser.add_argument("--frozen-head", action="store_true")
    parser.add_argument("--gradient-filter", type=float, metavar="BOUND", help="also DFT with this filter")
    parser.add_argument("--real", action="store_true", help="a real model's hidden states; --hidden 576 --vocab 49152")
    parser.add_argument("--against", nargs="*", choices=RIVALS, default=[])
    parser.add_argument("--objectives", nargs="*", choices=sorted(OBJECTIVES), default=[], help="also against plain")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rival-rounds", type=int, default=2, help="rounds that include the rivals (CPU)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--assert-targets", action="store_true", help="exit 1 where a target is missed")
    parser.add_argument("--peak-of", choices=[*LOSSES], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.real:
        args.hidden, args.vocab = 576, 49152
    return args


def main() -> int:
    args = parse()
    if args.device == "cuda" and not torch.cuda.is_available():
        print("--device cuda: torch sees no GPU here", file=sys.stderr)
        return 3
    torch.set_num_threads(1)
    if args.peak_of:
        print(peak_of_this_process(args, args.peak_of))
        return 0
    if is_emulated(args.dtype, args.device):
        return 3
    result = measure(args)
    missed = missed_targets(args, result)
    if args.json:
        print(json.dumps(result | {"missed_targets": missed}))
    else:
        show(result)
    for line in missed if args.assert_targets else ():
        print(f"missed: {line}", file=sys.stderr)
    return 1 if missed and args.assert_targets else 0


if __name__ == "__main__":
    sys.exit(main())
