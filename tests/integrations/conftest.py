"""Frameworks offline, on the CPU."""

import os

os.environ.update(TOKENIZERS_PARALLELISM="false", CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="1", USE_HF="1")
