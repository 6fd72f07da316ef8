"""Code tasks on the real toolchains."""

import pytest

from dft_eval.languages.typescript_checker import close_checkers
from dft_eval.sandbox.choose import open_sandbox
from dft_eval.tasks.catalog import TASKS
from dft_eval.tasks.code.python_tester_process import close_testers
from tests.conftest import require


@pytest.fixture
def open_code_task(data_dir):
    """A code task by name and protocol; skipped by name where its tools are not installed."""

    def open_task(name, protocol="strict"):
        task = TASKS[name](data_dir, protocol)
        missing = task.missing()
        require(not missing, f"make toolchains ({', '.join(entry.what for entry in missing)})")
        return task

    return open_task


@pytest.fixture(autouse=True, scope="module")
def no_checker_stays():
    """The TypeScript checker and the Python tester would outlive these tests and be found by others."""
    yield
    close_checkers()
    close_testers()


@pytest.fixture(params=["bubblewrap", "landlock"])
def backend(request, monkeypatch):
    """Code tasks isolate by this backend."""
    monkeypatch.setenv("DFT_SANDBOX", request.param)
    open_sandbox.cache_clear()
    yield request.param
    open_sandbox.cache_clear()
