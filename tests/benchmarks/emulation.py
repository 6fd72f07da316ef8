"""Times of a low-precision type that the CPU only emulates would be those of the emulation."""

import statistics
import sys
import time

import torch


def is_emulated(dtype_name: str, device: str) -> bool:
    """True, with a line on stderr, where a matrix product of this type takes longer than in float32."""
    dtype = getattr(torch, dtype_name)
    if device != "cpu" or dtype is torch.float32:
        return False
    ratio = _product_seconds(dtype) / _product_seconds(torch.float32)
    if ratio <= 1:
        return False
    print(
        f"this CPU emulates {dtype_name}: a matrix product takes {ratio:.1f} times as long as in float32, and the "
        "loss would be measured beside that. Use another machine, or --dtype float32 (make bench BENCH_DTYPE=float32).",
        file=sys.stderr,
    )
    return True


def _product_seconds(dtype: torch.dtype) -> float:
    gradient, weight = torch.ones(128, 4096, dtype=dtype), torch.ones(4096, 512, dtype=dtype)
    found = []
    for _ in range(5):
        start = time.process_time()
        gradient @ weight
        found.append(time.process_time() - start)
    return statistics.median(found)
