"""What the autoload hook adds to `import torch`, in milliseconds, asserted below 5.

    python tests/benchmarks/import_time.py --json

The hook is timed where it runs: at the end of `import torch`, as the entry point's load and call. Half of
the processes start without it, so that the noise of a whole import is shown beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys

LIMIT_MS = 5.0
HOOK = """
import os, sys, time
os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"
import torch
assert "dft_plugin" not in sys.modules
from importlib.metadata import entry_points
point = next(iter(entry_points(group="torch.backends", name="dft_plugin")))
start = time.perf_counter()
point.load()()
print(1e3 * (time.perf_counter() - start))
"""
IMPORT = "import time; start = time.perf_counter(); import torch; print(1e3 * (time.perf_counter() - start))"


def milliseconds(code: str, *, autoload: bool) -> float:
    """What `code` prints, in a fresh interpreter."""
    env = {**os.environ, "TORCH_DEVICE_BACKEND_AUTOLOAD": "1" if autoload else "0"}
    result = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return float(result.stdout)


def main() -> int:
    """Print the medians; exit code 1 where the limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    hook = [milliseconds(HOOK, autoload=False) for _ in range(arguments.repeats)]
    pairs = [[milliseconds(IMPORT, autoload=on) for on in (False, True)] for _ in range(arguments.repeats)]
    without, with_hook = (statistics.median(column) for column in zip(*pairs, strict=True))
    result = {
        "hook_ms": round(statistics.median(hook), 3),
        "import_torch_ms": round(without, 1),
        "import_torch_with_hook_ms": round(with_hook, 1),
        "limit_ms": LIMIT_MS,
    }
    print(json.dumps(result) if arguments.json else "\n".join(f"{key}: {value}" for key, value in result.items()))
    return int(result["hook_ms"] > LIMIT_MS)


if __name__ == "__main__":
    sys.exit(main())
