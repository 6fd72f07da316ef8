"""What the monitor costs: classes and statistics of one micro-batch, as a share of the loss they describe.

    python tests/benchmarks/monitor_overhead.py --tokens 4096 --hidden 896 --vocab 151936 --kept 0.3 --json

One round times `linear_loss` forward and backward, then `TokenClasses.classify` (with image placeholders) and
`TokenStats.of` (with classes and routes) on its output. The loss alone is a lower bound of a training step, so that the
ratio is an upper bound of the overhead. CPU: process time with one thread. CUDA: events. Median, 20th and 80th
percentile over rounds. `--assert-target` fails above 1%.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable

import torch

from dft_plugin import linear_loss
from dft_plugin.core.token_classes import CLASSES, TokenClasses
from dft_plugin.core.token_stats import TokenStats

MAX_RATIO = 0.01
REPEATS = 20  # of the short part, so that the clock resolves it


def seconds(work: Callable[[], object], device: str) -> float:
    """Seconds of one call."""
    if device == "cpu":
        start = time.process_time()
        work()
        return time.process_time() - start
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000


def measure(options: argparse.Namespace) -> dict[str, object]:
    """Ratios and seconds, with what they were measured on."""
    torch.manual_seed(0)
    device, dtype = options.device, getattr(torch, options.dtype)
    hidden = torch.randn(1, options.tokens, options.hidden, device=device, dtype=dtype, requires_grad=True)
    weight = torch.randn(options.vocab, options.hidden, device=device, dtype=dtype).mul_(0.02).requires_grad_()
    input_ids = torch.randint(0, options.vocab, (1, options.tokens), device=device)
    labels = input_ids.where(torch.rand(1, options.tokens, device=device) < options.kept, -100)
    routes = (input_ids > options.vocab // 2).long()
    classes = TokenClasses(torch.randint(0, len(CLASSES), (options.vocab,)))
    outputs = []

    def loss() -> None:
        hidden.grad = weight.grad = None
        output = linear_loss(hidden, weight, labels, objective="dft")
        output.loss.backward()
        outputs[:] = [output]

    def monitor() -> None:
        for _ in range(REPEATS):
            found = classes.classify(labels, input_ids, (7,))
            TokenStats.of(outputs[0], classes=found, routes=routes, num_routes=2)

    loss()
    monitor()
    rounds = [(seconds(loss, device), seconds(monitor, device) / REPEATS) for _ in range(options.rounds)]
    ratios = [ours / whole for whole, ours in rounds]
    low, *_, high = statistics.quantiles(ratios, n=5, method="inclusive")
    return {
        "ratio": statistics.median(ratios),
        "ratio_p20_p80": [low, high],
        "loss_s": statistics.median(whole for whole, _ in rounds),
        "monitor_s": statistics.median(ours for _, ours in rounds),
        "shape": {name: getattr(options, name) for name in ("tokens", "hidden", "vocab", "kept")},
        "rounds": options.rounds,
        "dtype": options.dtype,
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine(),
        "num_threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--hidden", type=int, default=896)
    parser.add_argument("--vocab", type=int, default=151_936)
    parser.add_argument("--kept", type=float, default=0.3)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--assert-target", action="store_true", help=f"fail above a ratio of {MAX_RATIO}")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = measure(options)
    if options.json:
        print(json.dumps(result))
    else:
        low, high = result["ratio_p20_p80"]
        print(f"monitor / loss = {result['ratio']:.5f} (20th to 80th percentile {low:.5f} to {high:.5f})")
        print(f"{result['monitor_s'] * 1e3:.2f} ms of {result['loss_s']:.3f} s on {result['device']}")
    return 1 if options.assert_target and result["ratio"] > MAX_RATIO else 0


if __name__ == "__main__":
    sys.exit(main())
