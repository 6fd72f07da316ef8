"""Seeds, and what a skipped prerequisite means: skipped by name on a desk, a failure in CI."""

import importlib.util
import os
import random
from pathlib import Path

import pytest

IS_CI = os.environ.get("CI") == "true"
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_DATASETS_OFFLINE="1")
FRAMEWORKS = {"llamafactory": "llamafactory", "swift": "swift"}  # marker -> module

# ms-swift's environment lacks the evaluation's libraries; these files have no test of ms-swift
HAS_EVALUATION = all(importlib.util.find_spec(name) is not None for name in ("pebble", "tenacity"))
collect_ignore = [] if HAS_EVALUATION else ["analysis/dynamics", "study/test_design.py"]


@pytest.fixture(autouse=True)
def _seeds() -> None:
    random.seed(0)
    if importlib.util.find_spec("torch") is not None:
        import torch

        torch.manual_seed(0)


def require(is_there: bool, what: str) -> None:
    """Skip by name where a prerequisite is absent; fail in CI, where everything must be there."""
    if not is_there:
        (pytest.fail if IS_CI else pytest.skip)(f"needs {what}")


@pytest.fixture(autouse=True)
def _framework(request: pytest.FixtureRequest) -> None:
    """A marked test needs its framework; the environment of the other framework does not run it at all."""
    for marker, module in FRAMEWORKS.items():
        if request.node.get_closest_marker(marker) is not None:
            require(importlib.util.find_spec(module) is not None, f"{module}: run it in that framework's environment")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The benchmark data, by DFT_DATA_DIR."""
    folder = os.environ.get("DFT_DATA_DIR", "")
    require(bool(folder) and Path(folder).is_dir(), "benchmark data in the folder named by DFT_DATA_DIR")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def real_model() -> Path:
    """SmolLM2-135M-Instruct in float32; skipped by name without the network."""
    from tests.real_model import WHEEL, real_model_folder

    folder = real_model_folder()
    require(folder is not None, f"{WHEEL} from the package index, for the real model")
    assert folder is not None
    return folder
