"""`dft eval run FILE` on the small benchmarks, in a process that can be killed."""

import sys
from pathlib import Path

from dft_eval.run.config import load_config
from dft_eval.run.evaluate import run_evaluation
from dft_eval.run.local_pool import LocalPool
from tests.eval.vision.small_benchmarks import CATALOG

if __name__ == "__main__":
    run_evaluation(load_config(Path(sys.argv[1])), CATALOG, LocalPool(num_workers=1))
