"""Frameworks offline, on the CPU, with private caches."""

import importlib.util
import os

import pytest

from tests.conftest import require

os.environ.update(
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
    CUDA_VISIBLE_DEVICES="",
    OMP_NUM_THREADS="1",
    USE_HF="1",
)

_MODULES = {"llamafactory": "llamafactory", "swift": "swift"}


@pytest.fixture(autouse=True)
def _framework(request: pytest.FixtureRequest) -> None:
    """A marked test needs its framework; the environment of the other framework does not run it at all."""
    for marker, module in _MODULES.items():
        if request.node.get_closest_marker(marker) is not None:
            require(importlib.util.find_spec(module) is not None, f"{module}: run it in that framework's environment")
