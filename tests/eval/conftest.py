"""A run needs data: the little benchmark's, in a folder of the test's own."""

import pytest

from tests.eval.arithmetic import write_data


@pytest.fixture
def arithmetic_data(tmp_path, monkeypatch):
    """`$DFT_DATA_DIR` with the little benchmark, and an empty cache."""
    monkeypatch.setenv("DFT_DATA_DIR", str(write_data(tmp_path / "data")))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "data"
