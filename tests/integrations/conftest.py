"""Frameworks offline, on the CPU."""

import os

import pytest

os.environ.update(TOKENIZERS_PARALLELISM="false", CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="1", USE_HF="1")


@pytest.fixture(autouse=True)
def _no_page(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the page of curves to its own tests: drawing it is two thirds of a tiny run in this process."""
    if request.module.__name__ != "tests.integrations.test_monitor_training":
        monkeypatch.setattr("dft_plugin.monitor.window_log.write_page", lambda *arguments: None)
