"""A benchmark and a backend of another package, added by the steps of CONTRIBUTING alone: one file, one entry point."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

DFT = Path(sys.executable).with_name("dft")
BENCHMARK = '''
from dft_eval.metrics import score_share
from dft_eval.records.schema import Sample, Score
from dft_eval.tasks.base import Task

WORDS = ("stop", "drawer", "level")


class Reversal(Task):
    """Words to be written backwards."""

    name, domain, data_files = "reversal", "spelling", ()
    protocols, chat_protocols = ("plain", "chat"), ("chat",)

    def samples(self):
        return [Sample(f"reversal/{word}", self._prompt(word), ("\\n",), 16) for word in WORDS]

    def _prompt(self, word):
        return ({"role": "user", "content": word},) if self.protocol == "chat" else word

    def score(self, answer):
        passed = answer.text == answer.sample_id.removeprefix("reversal/")[::-1]
        return Score(answer.sample_id, answer.repeat, passed, "ok" if passed else "wrong", float(passed))

    def summarise(self, scores):
        return {"accuracy": score_share([s.score for s in scores], [s.sample_id for s in scores])}

    def fingerprint(self):
        return {"rule": "equal text"}
'''
BACKEND = '''
from typing import ClassVar, Literal

from dft_eval.backends.base import BackendSettings


class MirrorSettings(BackendSettings):
    """Writes the prompt backwards."""

    speed_only: ClassVar[frozenset[str]] = frozenset({"batch_size"})
    model_at: ClassVar[Literal["here", "server", "nowhere"]] = "server"

    kind: Literal["mirror"]
    batch_size: int = 2

    def make(self, model, interface, sampling):
        return MirrorBackend(self, interface)


class MirrorBackend:
    def __init__(self, settings, interface):
        self.settings, self.interface = settings, interface

    def generate(self, requests):
        for start in range(0, len(requests), self.settings.batch_size):
            batch = requests[start : start + self.settings.batch_size]
            yield [request.answer(self.text(request.sample.prompt)[::-1], "stop") for request in batch]

    def text(self, prompt):
        return prompt[-1]["content"] if self.interface == "chat" else prompt

    def close(self):
        pass
'''


@pytest.fixture
def dft(tmp_path):
    """`dft eval` where a package with these two files is installed, by its metadata alone."""
    (tmp_path / "spelling_benchmark.py").write_text(BENCHMARK)
    (tmp_path / "mirror_backend.py").write_text(BACKEND)
    info = tmp_path / "spelling-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: spelling\nVersion: 1.0\n")

    def run(*arguments, task="spelling_benchmark:Reversal", backend="mirror_backend:MirrorSettings"):
        points = f"[dft_eval.tasks]\nreversal = {task}\n[dft_eval.backends]\nmirror = {backend}\n"
        (info / "entry_points.txt").write_text(points)
        environment = os.environ | {"PYTHONPATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
        command = [str(DFT), "eval", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    return run


def configure(tmp_path, **changes):
    content = {
        "model": "any",
        "tasks": ["reversal"],
        "interface": {"spelling": "chat"},
        "backend": {"kind": "mirror"},
        "out": str(tmp_path / "out"),
    }
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(content | changes))
    return path


def test_a_benchmark_and_a_backend_from_outside_run_and_resume(dft, tmp_path):
    result = dft("run", configure(tmp_path), "--workers", 1, "--json")
    assert result.returncode == 0, result.stderr
    (metrics,) = json.loads(result.stdout)["runs"].values()
    assert metrics["headline"]["value"] == 1.0 and metrics["protocol"] == "chat" and metrics["n_scored"] == 3
    settings = json.loads((tmp_path / "out/reversal/run.json").read_text())["settings"]
    assert settings["backend"] == {"kind": "mirror"}  # batch_size decides no answer
    faster = configure(tmp_path, backend={"kind": "mirror", "batch_size": 3})
    assert dft("run", faster, "--workers", 1).returncode == 0
    refused = dft("run", configure(tmp_path, backend={"kind": "mirror", "tilt": 3}))
    assert refused.returncode == 2 and "kind mirror: tilt: Extra inputs" in " ".join(refused.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "broken", "message"),
    [
        (["fetch", "reversal"], {"task": "absent:Task"}, "dft_eval.tasks 'reversal' of spelling (absent:Task) could"),
        (
            ["fetch", "reversal"],
            {"task": "mirror_backend:MirrorBackend"},
            "a class derived from dft_eval.tasks.base.Task",
        ),
        (["run", "c.yaml"], {"backend": "spelling_benchmark:WORDS"}, "dft_eval.backends 'mirror' of spelling"),
    ],
)
def test_a_broken_one_is_named(dft, tmp_path, arguments, broken, message):
    path = configure(tmp_path)
    result = dft(*[str(path) if argument == "c.yaml" else argument for argument in arguments], **broken)
    assert result.returncode == 2 and message in " ".join(result.stderr.split()), result.stderr
