"""Scoring answers of a file: verdicts, what is missing, lost workers, kills and shards."""

import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dft_eval.errors import ChangedRunError, ConfigError, RecordsError, StoreError
from dft_eval.records.schema import Answer
from dft_eval.run.local_pool import LocalPool
from dft_eval.run.score_run import ScoreRequest, score_file, score_files
from dft_eval.run.shards import parse_shard
from tests.eval.arithmetic import CATALOG, NUM_SAMPLES, Arithmetic, write_samples
from tests.eval.processes import wait_until_gone

ROOT = Path(__file__).parents[2]
POOL = LocalPool(num_workers=2)

pytestmark = pytest.mark.usefixtures("arithmetic_data")


def score(tmp_path, samples, *, out="run", shard=None, task="arithmetic", executor=POOL):
    request = ScoreRequest(task, samples, tmp_path / out, shard=None if shard is None else parse_shard(shard))
    return score_file(request, CATALOG, executor)


def records(path):
    return sorted(path.read_text().splitlines())


def test_a_run_folder(tmp_path):
    metrics = score(tmp_path, write_samples(tmp_path / "s.jsonl"))
    num_wrong = len(range(0, NUM_SAMPLES, 3))
    assert metrics == json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["n"] == metrics["n_scored"] == NUM_SAMPLES and metrics["is_complete"]
    assert metrics["statuses"] == {"ok": NUM_SAMPLES - num_wrong, "wrong": num_wrong}
    assert metrics["headline"]["name"] == "accuracy"
    assert metrics["headline"]["value"] == 1 - num_wrong / NUM_SAMPLES
    assert metrics["headline"]["low"] < metrics["headline"]["value"] < metrics["headline"]["high"]
    assert metrics["pass_at_k"]["pass@1"] == metrics["metrics"]["accuracy"]
    run = json.loads((tmp_path / "run/run.json").read_text())["settings"]
    assert run["task"] == "arithmetic" and run["protocol"] == "text" and run["fingerprint"] == {"adder": "1"}
    first = json.loads((tmp_path / "run/scores.jsonl").read_text().splitlines()[0])
    assert set(first) == {"sample_id", "repeat", "passed", "status", "score", "detail"}
    assert len(records(tmp_path / "run/generations.jsonl")) == NUM_SAMPLES


def test_scoring_again_judges_nothing_twice(tmp_path):
    samples = write_samples(tmp_path / "s.jsonl")
    metrics = score(tmp_path, samples)
    before = (tmp_path / "run/scores.jsonl").stat()
    assert score(tmp_path, samples) == metrics
    assert (tmp_path / "run/scores.jsonl").stat().st_mtime_ns == before.st_mtime_ns
    # a run's own generations are a file of samples like any other
    again = score(tmp_path, tmp_path / "run/generations.jsonl", out="again")
    assert again == metrics and records(tmp_path / "again/scores.jsonl") == records(tmp_path / "run/scores.jsonl")


def test_other_answers_or_another_protocol_need_another_folder(tmp_path):
    score(tmp_path, write_samples(tmp_path / "s.jsonl"))
    with pytest.raises(ChangedRunError, match="answers_sha256"):
        score(tmp_path, write_samples(tmp_path / "t.jsonl", {0: "x"}))
    request = ScoreRequest("arithmetic", tmp_path / "s.jsonl", tmp_path / "run", protocol="messages")
    with pytest.raises(ChangedRunError, match="protocol text -> messages; prompt_sha256"):
        score_file(request, CATALOG, POOL)


def test_missing_answers_leave_no_headline(tmp_path):
    metrics = score(tmp_path, write_samples(tmp_path / "s.jsonl", count=30))
    assert metrics["n"] == NUM_SAMPLES and metrics["n_missing"] == 10 and not metrics["is_complete"]
    assert metrics["headline"] is None and "metrics" not in metrics and "pass_at_k" not in metrics
    assert metrics["incomplete_because"] == ["10 of 40 answers are missing"]
    assert metrics["partial_metrics"]["accuracy"]["num_items"] == 30


def test_repeats_that_count_from_one_are_refused(tmp_path):
    samples = write_samples(tmp_path / "s.jsonl", repeats=2)
    samples.write_text(samples.read_text().replace('"repeat": 1', '"repeat": 2').replace('"repeat": 0', '"repeat": 1'))
    with pytest.raises(RecordsError, match="`repeat` starts at 1; it counts from 0. Subtract 1 from each"):
        score(tmp_path, samples)


def test_a_program_for_a_benchmark_that_reads_none_is_refused(tmp_path):
    samples = write_samples(tmp_path / "s.jsonl", count=2)
    samples.write_text(samples.read_text().replace("completion", "program"))
    with pytest.raises(RecordsError, match="line 1: program: not read by this benchmark; accepted: completion, answer"):
        score(tmp_path, samples)
    assert not (tmp_path / "run").exists()


def test_a_pattern_scores_one_file_for_each_benchmark(tmp_path):
    write_samples(tmp_path / "arithmetic.jsonl")
    request = ScoreRequest("*", tmp_path / "{task}.jsonl", tmp_path / "out")
    with pytest.raises(ConfigError, match=r"slow\.jsonl and 0 more of 2 files are not there"):
        score_files(request, CATALOG, POOL)
    write_samples(tmp_path / "slow.jsonl", count=3)
    runs = score_files(request, CATALOG, POOL)
    assert {Path(path).name: run["n_missing"] for path, run in runs.items()} == {
        "arithmetic": 0,
        "slow": NUM_SAMPLES - 3,
    }
    with pytest.raises(ConfigError, match=r"stands for 2 benchmarks, arithmetic first, .* put \{task\} into its name"):
        score_files(ScoreRequest("*", tmp_path / "slow.jsonl", tmp_path / "b"), CATALOG, POOL)


def test_repeats(tmp_path):
    samples = write_samples(tmp_path / "s.jsonl", repeats=3)
    metrics = score(tmp_path, samples)
    assert metrics["num_repeats"] == 3 and list(metrics["pass_at_k"]) == ["pass@1", "pass@2", "pass@3"]
    samples.write_text("".join(samples.read_text().splitlines(keepends=True)[:-1]))
    assert score(tmp_path, samples, out="other")["n_missing"] == 1


@pytest.mark.slow
def test_a_worker_that_dies_hangs_or_raises_is_no_failure_and_is_tried_again(tmp_path):
    samples = write_samples(
        tmp_path / "s.jsonl", {3: "!die", 4: "!hang", 5: "!raise", 7: "!unjudged", 8: "a\0b", 10: ""}
    )
    metrics = score(tmp_path, samples, executor=LocalPool(num_workers=2, timeout_s=3))
    assert metrics["n_errors"] == 3 and metrics["n_unjudged"] == 1 and metrics["n_missing"] == 0
    assert metrics["statuses"]["infra_error"] == 3 and metrics["statuses"]["no_answer"] == 1
    assert not metrics["is_complete"] and metrics["partial_metrics"]["accuracy"]["num_items"] == NUM_SAMPLES - 4
    scores = {r["sample_id"]: r for r in map(json.loads, records(tmp_path / "run/scores.jsonl"))}
    reasons = [scores[f"sum/{a}+{a + 3}"]["detail"]["reason"] for a in (3, 4, 5)]
    assert scores["sum/3+6"]["passed"] is None and scores["sum/3+6"]["score"] is None
    assert "the worker died" in reasons[0] and "no score within 3 s" in reasons[1]
    assert reasons[2] == "scoring raised OSError: no more processes"
    before = len(records(tmp_path / "run/scores.jsonl"))
    assert score(tmp_path, samples, executor=LocalPool(num_workers=2, timeout_s=1))["n_errors"] == 3
    assert len(records(tmp_path / "run/scores.jsonl")) == before == NUM_SAMPLES


def _interrupted():
    os.kill(os.getpid(), signal.SIGINT)
    return Arithmetic(None, "text")


class Interrupting(Arithmetic):
    """A benchmark on whose way into a worker the terminal's interrupt comes."""

    def __reduce__(self):
        return _interrupted, ()


def test_an_interrupt_before_a_worker_is_ready_is_the_main_process_s_to_handle(capfd):
    answers = [Answer(f"sum/{a}+{a + 3}", 0, completion=str(2 * a + 3)) for a in range(3)]
    scores = list(LocalPool(num_workers=1).score(Interrupting(None, "text"), answers))
    assert [score.status for score in scores] == ["ok"] * 3
    assert "Traceback" not in capfd.readouterr().err


SERVER = "import dft_eval.run.fork_server, time; print('loading', flush=True); time.sleep(1000)"
STARTER = """
import subprocess, sys, time
server = subprocess.Popen((sys.executable, "-c", sys.argv[1]), stdout=subprocess.PIPE)
server.stdout.readline()
print(server.pid, flush=True)
time.sleep(1000)
"""


def test_a_fork_server_that_is_still_loading_ends_with_what_started_it():
    with subprocess.Popen((sys.executable, "-c", STARTER, SERVER), stdout=subprocess.PIPE) as starter:
        server = int(starter.stdout.readline())
        ended = os.pidfd_open(server)
        starter.kill()
    assert select.select([ended], [], [], 30.0)[0]
    os.close(ended)
    with contextlib.suppress(ChildProcessError):  # where orphans fall to this process
        os.waitpid(server, 0)


def test_shards_merge_to_the_whole_and_merging_again_changes_nothing(tmp_path):
    samples = write_samples(tmp_path / "s.jsonl")
    whole = score(tmp_path, samples)
    for index in range(3):
        part = score(tmp_path, samples, out="sharded", shard=f"{index}/3")
        assert part["headline"] is None and "shard" in part["incomplete_because"][0]
    merged = score(tmp_path, samples, out="sharded")
    assert merged == whole
    assert records(tmp_path / "sharded/scores.jsonl") == records(tmp_path / "run/scores.jsonl")
    before = (tmp_path / "sharded/scores.jsonl").read_bytes()
    assert score(tmp_path, samples, out="sharded") == whole
    assert (tmp_path / "sharded/scores.jsonl").read_bytes() == before


def test_a_missing_shard_is_made_up_for(tmp_path):
    samples = write_samples(tmp_path / "s.jsonl")
    score(tmp_path, samples, out="sharded", shard="1/3")
    assert score(tmp_path, samples, out="sharded")["is_complete"]


def test_a_shard_of_other_settings_or_other_verdicts_is_refused(tmp_path):
    samples = write_samples(tmp_path / "s.jsonl")
    score(tmp_path, samples, out="sharded", shard="0/2")
    with pytest.raises(ChangedRunError, match="differs from this run in: answers_sha256"):
        score(tmp_path, write_samples(tmp_path / "t.jsonl", {0: "x"}), out="sharded")
    scores = tmp_path / "sharded/shards/0-of-2/scores.jsonl"
    score(tmp_path, samples, out="sharded")
    scores.write_text(scores.read_text().replace('"ok"', '"wrong"'))
    with pytest.raises(StoreError, match="differ in"):
        score(tmp_path, samples, out="sharded")


@pytest.mark.parametrize("text", ["", "1", "2/2", "-1/2", "0/0", "a/b", "1/2/3"])
def test_bad_shards_are_refused(text):
    with pytest.raises(ConfigError, match="i from 0 to n-1"):
        parse_shard(text)


SCORER = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from dft_eval.run.local_pool import LocalPool
from dft_eval.run.score_run import ScoreRequest, score_file, score_files
from tests.eval.arithmetic import CATALOG
if __name__ == "__main__":
    score_file(ScoreRequest("slow", Path(sys.argv[1]), Path(sys.argv[2])), CATALOG, LocalPool(num_workers=2))
"""


@pytest.mark.slow
def test_killing_the_scorer_ten_times_loses_nothing(tmp_path):
    samples = write_samples(tmp_path / "s.jsonl", repeats=10)
    script = tmp_path / "scorer.py"
    script.write_text(SCORER.format(root=str(ROOT)))
    command = [sys.executable, str(script), str(samples)]
    marker = {"DFT_TEST_MARKER": str(tmp_path)}
    subprocess.run([*command, str(tmp_path / "whole")], check=True)
    rng, num_landed = random.Random(0), 0
    scores = tmp_path / "killed/scores.jsonl"
    for _ in range(10):
        scorer = subprocess.Popen([*command, str(tmp_path / "killed")], env=os.environ | marker)
        had = scores.stat().st_size if scores.exists() else 0
        deadline = time.monotonic() + 30
        while scorer.poll() is None and time.monotonic() < deadline:
            if scores.exists() and scores.stat().st_size > had:  # it is judging: any moment from now on
                time.sleep(rng.uniform(0, 0.4))
                break
            time.sleep(0.01)
        if scorer.poll() is None:
            scorer.send_signal(signal.SIGKILL)
            num_landed += 1
        scorer.wait()
    assert num_landed >= 5, "most kills came after the end; make the run longer"
    wait_until_gone(f"DFT_TEST_MARKER={tmp_path}")
    subprocess.run([*command, str(tmp_path / "killed")], check=True)
    assert records(scores) == records(tmp_path / "whole/scores.jsonl")
    assert (tmp_path / "killed/metrics.json").read_bytes() == (tmp_path / "whole/metrics.json").read_bytes()
