"""Everything around a job's command: order, failures, taking over, kill -9, what is left running."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from dft_plugin.errors import ConflictError
from tests.study.plain_jobs import Script, append, run, written


def test_jobs_run_after_those_they_need(tmp_path):
    jobs = [
        Script("train/late", tmp_path, after=("train/early",), code=append(tmp_path, "late")),
        Script("train/early", tmp_path, code=append(tmp_path, "early")),
    ]
    outcome = run(jobs)
    assert written(tmp_path) == ["early", "late"] and not outcome.failures
    record = json.loads((tmp_path / "jobs/train/early.json").read_text())
    assert record["job"] == "train/early" and record["wall_s"] > 0 and record["cpu_s"] > 0


def test_at_most_so_many_run_at_once(tmp_path):
    code = (
        "import pathlib, time\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "mine = folder / '{name}.running'\n"
        "mine.touch()\n"
        "time.sleep(0.3)\n"
        f"open(folder / 'written', 'a').write(str(len(list(folder.glob('*.running')))) + chr(10))\n"
        "mine.unlink()"
    )
    jobs = [Script(f"train/{index}", tmp_path, code=code.replace("{name}", str(index))) for index in range(5)]
    run(jobs, num_jobs=2)
    assert len(written(tmp_path)) == 5 and set(written(tmp_path)) <= {"1", "2"}


def test_a_finished_job_is_not_done_again(tmp_path):
    job = Script("train/once", tmp_path, code=append(tmp_path, "once"))
    first, second = run([job]), run([job])
    assert (
        written(tmp_path) == ["once"] and first.done["train/once"].fingerprint == second.done["train/once"].fingerprint
    )


def test_a_job_of_other_settings_is_refused_and_named(tmp_path):
    job = Script("train/once", tmp_path, code=append(tmp_path, "once"))
    run([job])
    with pytest.raises(ConflictError, match=r"train/once .* option 0 -> 1.* `out`"):
        run([dataclasses.replace(job, option=1)])
    assert written(tmp_path) == ["once"]


def test_a_job_behind_a_changed_one_is_refused(tmp_path):
    first = Script("train/first", tmp_path, code=append(tmp_path, "first"))
    second = Script("eval/second", tmp_path, after=("train/first",), code=append(tmp_path, "second"))
    run([first, second])
    first.record_file.unlink()
    with pytest.raises(ConflictError, match="what it starts from has changed"):
        run([dataclasses.replace(first, option=1), second])


def test_a_failed_job_does_not_stop_the_others(tmp_path):
    jobs = [
        Script("train/bad", tmp_path, code="print('before the end'); raise SystemExit(3)"),
        Script("eval/bad", tmp_path, after=("train/bad",), code=append(tmp_path, "never")),
        Script("train/good", tmp_path, code=append(tmp_path, "good")),
        Script("probs", tmp_path, after=("train/bad", "train/good"), needs_all=False, code=append(tmp_path, "probs")),
    ]
    outcome = run(jobs)
    assert written(tmp_path) == ["good", "probs"] and set(outcome.done) == {"train/good", "probs"}
    assert "exit code 3" in outcome.failures["train/bad"] and "before the end" in outcome.failures["train/bad"]
    assert outcome.failures["eval/bad"] == "not tried, since train/bad failed"


def test_a_failed_job_is_tried_again(tmp_path):
    code = f"import pathlib, sys; sys.exit(not pathlib.Path({str(tmp_path / 'go')!r}).exists())"
    job = Script("train/later", tmp_path, code=code)
    assert run([job]).failures
    (tmp_path / "go").touch()
    assert not run([job]).failures


def test_a_command_that_is_not_there_is_a_failure(tmp_path):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Absent(Script):
        def command(self):
            return ["/no/such/command"]

    outcome = run([Absent("train/absent", tmp_path, code=""), Script("train/good", tmp_path, code="")])
    assert "cannot be started" in outcome.failures["train/absent"] and "train/good" in outcome.done


def test_variables_that_change_training_are_not_handed_on(tmp_path, monkeypatch):
    monkeypatch.setenv("NPROC_PER_NODE", "8")
    monkeypatch.setenv("FORCE_TORCHRUN", "1")
    names = ["FORCE_TORCHRUN", "MINE", "NPROC_PER_NODE"]
    code = f"import os; open({str(tmp_path / 'written')!r}, 'w').write(str([n for n in {names} if n in os.environ]))"
    run([Script("train/env", tmp_path, env={"MINE": "1", "FORCE_TORCHRUN": "1"}, code=code)])
    assert (tmp_path / "written").read_text() == "['FORCE_TORCHRUN', 'MINE']"


def start(folder):
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.study.plain_jobs", str(folder)], stdout=subprocess.PIPE, text=True
    )
    return process


def wait_for(path, process):
    while not path.exists() or not path.read_text():
        assert process.poll() is None, "the command ended early"
        time.sleep(0.05)
    return int(path.read_text())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_study_goes_on_and_leaves_nothing_running(tmp_path, number):
    """The job's own child is in another session, as torchrun's workers are."""
    process = start(tmp_path)
    grandchild = wait_for(tmp_path / "waiting", process)
    os.kill(process.pid, number)
    process.communicate(timeout=60)
    assert not (tmp_path / "jobs/train/first.json").exists() and written(tmp_path) == []
    (tmp_path / "go").touch()
    output, _ = start(tmp_path).communicate(timeout=60)
    assert json.loads(output) == {"done": ["train/first", "train/second"], "failures": {}}
    assert written(tmp_path) == ["first", "second"]
    assert not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE


@pytest.mark.slow
def test_jobs_run_on_a_ray_cluster(tmp_path):
    pytest.importorskip("ray")
    from dft_plugin.study.ray_cluster import RayPlace

    jobs = [
        Script("train/first", tmp_path, code=append(tmp_path, "first")),
        Script("train/bad", tmp_path, code="print('before the end'); raise SystemExit(3)"),
        Script("eval/second", tmp_path, after=("train/first",), code=append(tmp_path, "second")),
    ]
    outcome = run(jobs, place=RayPlace(None))
    assert written(tmp_path) == ["first", "second"] and set(outcome.done) == {"train/first", "eval/second"}
    assert "before the end" in outcome.failures["train/bad"]
