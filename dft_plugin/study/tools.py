"""The steps of a study that are verbs of `dft` itself: scan, eval run, probs, report."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dft_eval.records.files import sha256_of
from dft_eval.records.model_hash import hash_model
from dft_plugin import __version__
from dft_plugin.study.design import ScanConfig, read_yaml
from dft_plugin.study.job import Job

DFT = str(Path(sys.executable).parent / "dft")


@dataclass(frozen=True, kw_only=True)
class EvalJob(Job):
    """One model on the benchmarks of one configuration.

    Attributes:
        config: File of `dft eval run`.
        out: Folder of its runs.
        model: The model's folder or name, once it is trained.
        given_model: The study's own model, where this one is not trained; None otherwise.
    """

    config: Path
    out: Path
    model: Callable[[], str]
    given_model: str | None = None

    def settings(self) -> dict[str, Any]:
        """The configuration; `dft eval run` guards its own records besides."""
        config = {key: value for key, value in read_yaml(self.config).items() if key not in ("model", "models", "out")}
        model = None if self.given_model is None else hash_model(self.given_model)
        return {"config": json.loads(json.dumps(config, default=str)), "model_hash": model, "dft_plugin": __version__}

    def prepare(self, was_begun: bool) -> bool:
        """Nothing to prepare; `dft eval run` goes on from the answers that are there."""
        return was_begun

    def command(self) -> list[str]:
        """`dft eval run`."""
        return [DFT, "eval", "run", str(self.config), "--model", self.model(), "--out", str(self.out)]


@dataclass(frozen=True, kw_only=True)
class ScanJob(Job):
    """`dft scan` of the study's model.

    Attributes:
        model: The model.
        config: What to scan.
    """

    model: str
    config: ScanConfig

    @cached_property
    def _inputs(self) -> dict[str, Any]:
        data = {str(path): sha256_of(path) for path in self.config.data}
        return {"model_hash": hash_model(self.model), "data_sha256": data}

    def settings(self) -> dict[str, Any]:
        """Options and hashes."""
        return {"config": self.config.model_dump(mode="json"), **self._inputs, "dft_plugin": __version__}

    def command(self) -> list[str]:
        """`dft scan`."""
        return [DFT, "scan", self.model, *map(str, self.config.data), *_options(self.config), "--out", str(self._out)]

    @property
    def _out(self) -> Path:
        return self.folder / "scan"


@dataclass(frozen=True, kw_only=True)
class ProbsJob(Job):
    """`dft probs` of the base model and every trained one.

    Attributes:
        config: Which rows.
        models: Folder or name by name of the checkpoint, of those that are there.
    """

    config: ScanConfig
    models: Callable[[], Mapping[str, str]]

    def settings(self) -> dict[str, Any]:
        """Options and hashes."""
        data = {str(path): sha256_of(path) for path in self.config.data}
        return {"config": self.config.model_dump(mode="json"), "data_sha256": data, "models": dict(self.models())}

    def command(self) -> list[str]:
        """`dft probs`."""
        data = [part for path in self.config.data for part in ("--data", str(path))]
        models = [f"{name}={model}" for name, model in self.models().items()]
        return [DFT, "probs", *models, *data, *_options(self.config), "--out", str(self._out)]

    def refuse_change(self, record: Mapping[str, Any]) -> None:
        """Measure again where there are other models or rows: what was measured has not been overwritten by hand."""
        shutil.rmtree(self._out, ignore_errors=True)

    @property
    def _out(self) -> Path:
        return self.folder / "probs"


@dataclass(frozen=True, kw_only=True)
class ReportJob(Job):
    """`dft report` of the study's runs; made anew by every call.

    Attributes:
        baseline: The arm the others are compared with.
    """

    baseline: str

    def settings(self) -> dict[str, Any]:
        """The baseline."""
        return {"baseline": self.baseline}

    def command(self) -> list[str]:
        """`dft report`."""
        probs = self.folder / "probs" / "probs.json"
        given = ["--probs", str(probs.parent)] if probs.is_file() else []
        runs, out = self.folder / "eval", self.folder / "report"
        return [DFT, "report", str(runs), "--baseline", self.baseline, *given, "--out", str(out)]

    def load(self, before: Mapping[str, Any]) -> None:
        """Nothing is taken over: it takes seconds, and what it reads may have changed."""
        return


def _options(config: ScanConfig) -> list[str]:
    return ["--samples", str(config.samples), "--chat" if config.chat else "--completion"]
