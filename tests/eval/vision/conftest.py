"""VLMEvalKit takes twenty seconds to import: the tests of one process share one of its processes."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from dft_eval.run.config import EvalConfig
from dft_eval.run.evaluate import run_evaluation
from dft_eval.run.local_pool import LocalPool
from dft_eval.vision.process import VlmevalProcess, find_python
from tests.conftest import require
from tests.eval.vision.small_benchmarks import CATALOG, write_data
from tests.eval.vision.stub_judge import KEY

POOL = LocalPool(num_workers=1)


@pytest.fixture(scope="session")
def python():
    """The interpreter that has VLMEvalKit."""
    named = os.environ.get("DFT_VLMEVAL_PYTHON", "")
    require(bool(named) and Path(named).exists(), "VLMEvalKit's interpreter in DFT_VLMEVAL_PYTHON; run: make vlmeval")
    return find_python(Path(named))


@pytest.fixture(scope="session")
def shared_process(python):
    """Lives as long as the tests; its environment holds the judge's key."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", KEY)
        process = VlmevalProcess(python)
        list(process.run({"job": "forget_model"}))
    yield process
    process.close()


@pytest.fixture
def small_data(tmp_path, monkeypatch):
    """`$DFT_DATA_DIR` with small files of the three benchmarks, and an empty cache."""
    monkeypatch.setenv("DFT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_data(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def evaluate(shared_process, small_data, tmp_path, monkeypatch):
    """`dft eval run` on the small benchmarks; returns the metrics by task."""

    class Shared(VlmevalProcess):
        """Every command's process is the tests' one."""

        is_running = True

        def __init__(self, python):
            self.run = shared_process.run

        def close(self):
            """Not yet."""

    monkeypatch.setattr("dft_eval.tasks.vision.benchmarks.VlmevalProcess", Shared)

    def run(*, tasks=("*",), catalog=CATALOG, **settings):
        content = {"tasks": list(tasks), "interface": "chat", "out": str(tmp_path / "runs")} | settings
        results = run_evaluation(EvalConfig.model_validate(content), catalog, POOL)
        return {metrics["task"]: metrics for metrics in results.values()}

    return run


def run_in_vlmeval(python: Path, program: str, *arguments: str):
    """What a program prints last, as JSON."""
    command = [str(python), "-W", "ignore", "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
