"""Scoring on a Ray cluster: the same records as the local pool."""

import subprocess
import sys
from pathlib import Path

import pytest

from dft_eval.errors import ConfigError
from dft_eval.records.schema import Answer
from dft_eval.run.local_pool import LocalPool
from dft_eval.run.ray_cluster import _score_there
from dft_eval.run.score_run import ScoreRequest, score_file
from tests.eval.arithmetic import CATALOG, Arithmetic, write_samples

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("arithmetic_data")

# in a process of its own: Ray keeps threads and sockets, which a strict pytest would complain about
RAY_SCORER = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from dft_eval.run.ray_cluster import RayCluster
from dft_eval.run.score_run import ScoreRequest, score_file
from tests.eval.arithmetic import CATALOG
if __name__ == "__main__":
    request = ScoreRequest("arithmetic", Path(sys.argv[1]), Path(sys.argv[2]))
    score_file(request, CATALOG, RayCluster(num_cpus=2, timeout_s=45))
"""


@pytest.mark.slow
def test_the_same_records_as_the_local_pool(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # Ray's workers import the benchmark of the tests
    samples = write_samples(tmp_path / "s.jsonl", {3: "!die", 4: "!hang", 5: "!raise"})
    script = tmp_path / "scorer.py"
    script.write_text(RAY_SCORER.format(root=str(ROOT)))
    command = [sys.executable, str(script), str(samples), str(tmp_path / "ray")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr
    score_file(ScoreRequest("arithmetic", samples, tmp_path / "local"), CATALOG, LocalPool(2, timeout_s=15))
    rays, locals_ = (sorted((tmp_path / name / "scores.jsonl").read_text().splitlines()) for name in ("ray", "local"))
    lost = '"infra_error"'
    assert [r for r in rays if lost not in r] == [r for r in locals_ if lost not in r]
    assert sum(lost in r for r in rays) == sum(lost in r for r in locals_) == 3
    assert len(rays) == len(locals_)


def test_a_machine_with_other_tools_or_data_judges_nothing(tmp_path, arithmetic_data):
    task = Arithmetic(arithmetic_data, "text")
    answer = Answer("sum/0+3", completion="3")
    assert "differs in adder; install the same tools" in _score_there(task, {"adder": "2"}, answer)
    (arithmetic_data / task.data_files[0].path).write_text("")
    assert "has sha256" in _score_there(task, {"adder": "1"}, answer)


def test_unknown_executors_are_refused():
    from dft_eval.cli import _make_executor

    with pytest.raises(ConfigError, match="local and ray are accepted"):
        _make_executor("slurm", None, None)
