"""Base class of a benchmark, as the rest of the evaluation uses it."""

from __future__ import annotations

import gzip
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from dft_eval.backends.base import Backend, BackendSettings, Interface, SamplingParams
from dft_eval.backends.resources import Resources
from dft_eval.errors import ConfigError
from dft_eval.metrics import Estimate, mean_by_problem
from dft_eval.prerequisites import Missing
from dft_eval.records.schema import Answer, Sample, Score
from dft_eval.tasks.protocol_rules import ProtocolRules
from dft_eval.vision.settings import VisionSettings


@dataclass(frozen=True)
class DataFile:
    """A file a benchmark needs.

    Attributes:
        path: Below the data folder.
        url: Where `dft eval fetch` gets it, at a pinned revision.
        sha256: Of its bytes.
        md5: Instead, where its publisher gives only that.
    """

    path: str
    url: str
    sha256: str = ""
    md5: str = ""

    @property
    def algorithm(self) -> str:
        """Of the digest that is pinned."""
        return "sha256" if self.sha256 else "md5"

    @property
    def digest(self) -> str:
        """Digest the file must have."""
        return self.sha256 or self.md5

    def records(self, data_dir: Path) -> list[dict[str, Any]]:
        """Return the objects of a JSONL file, compressed or not, in its order."""
        content = (data_dir / self.path).read_bytes()
        if self.path.endswith(".gz"):
            content = gzip.decompress(content)
        lines = content.decode().split("\n")  # not `splitlines`, which also splits at separators inside texts
        return [json.loads(line) for line in lines if line.strip()]


@dataclass(frozen=True)
class TaskSettings:
    """The part of a command's settings that concerns one benchmark.

    Attributes:
        backend: Where answers come from; None where a file of them is scored.
        interface: Form in which the model is asked.
        sampling: How tokens are drawn.
        models: Folders or names of all models of the command.
        vision: VLMEvalKit and the judge.
    """

    backend: BackendSettings | None = None
    interface: Interface = "completion"
    sampling: SamplingParams = field(default_factory=SamplingParams)
    models: tuple[str, ...] = ()
    vision: VisionSettings = field(default_factory=VisionSettings)


class Executor(Protocol):
    """A place where answers are scored: processes of this machine, a cluster, or a judging model's server."""

    def score(self, task: Task, answers: Sequence[Answer]) -> Iterator[Score]:
        """Yield one score for each answer, in any order."""


class Task(ABC):
    """One benchmark: its samples, how an answer is scored, and what the scores are worth together.

    The run loop asks a task for everything that may differ between benchmarks and never looks at its class. Those
    that ask a model through other software than our backends override `check_settings`, `describe_settings`,
    `describe_environments`, `open_backend` and `choose_executor`.

    An instance is cheap to make, picklable, and reads its data on first use, since worker processes of a
    scoring pool receive it.

    Args:
        data_dir: Folder that holds `data_files`.
        protocol: One of `protocols`.
    """

    name: ClassVar[str]
    domain: ClassVar[str]
    data_files: ClassVar[tuple[DataFile, ...]]
    protocols: ClassVar[tuple[str, ...]]
    reported: ClassVar[tuple[str, ...]] = ()
    """Columns of `summarise` that a report shows under the headline, in the order of the published table."""
    texts: ClassVar[tuple[str, ...]] = ("completion", "answer")
    """Texts of an answer that are read; a file with another one is refused."""
    chat_protocols: ClassVar[tuple[str, ...]] = ()
    """Those of `protocols` that ask in chat messages; the others ask in one text that the model continues."""
    all_rules: ClassVar[tuple[ProtocolRules, ...]] = ()
    """The rules of each of `protocols`, as docs/protocols.md shows them; empty where another harness has them."""

    def __init__(self, data_dir: Path, protocol: str) -> None:
        self.data_dir = data_dir
        self.protocol = protocol

    @abstractmethod
    def samples(self) -> Sequence[Sample]:
        """Every sample, in the benchmark's own order."""

    def questions(self) -> dict[str, str]:
        """The text of each problem by its id, for finding it in training data; here the prompts as they are.

        A benchmark whose prompts hold more than the problem, such as examples, says so by its own version.
        """
        return {
            sample.unit: sample.prompt
            if isinstance(sample.prompt, str)
            else "\n".join(turn["content"] for turn in sample.prompt)
            for sample in self.samples()
        }

    def missing(self) -> Sequence[Missing]:
        """Return what must be installed before anything can be scored; data files are checked elsewhere."""
        return ()

    @abstractmethod
    def score(self, answer: Answer) -> Score:
        """Score one answer; called in a worker process, never raises for what a model may write."""

    @abstractmethod
    def summarise(self, scores: Sequence[Score]) -> dict[str, Estimate]:
        """The benchmark's own columns, by name, over the judged scores; the first is the headline."""

    def problem_scores(self, scores: Sequence[Score]) -> dict[str, float]:
        """The value in [0, 1] of each problem, over the judged scores; their mean is the headline.

        Models are compared by these. Here: the mean score over the answers of all samples of a problem. A benchmark
        whose headline is another mean says so by its own version.
        """
        units = {sample.sample_id: sample.unit for sample in self.samples()}
        judged = [(units[score.sample_id], score.score) for score in scores if score.score is not None]
        return mean_by_problem([value for _, value in judged], [unit for unit, _ in judged])

    @property
    def interface(self) -> Interface:
        """Form in which the protocol asks."""
        return "chat" if self.protocol in self.chat_protocols else "completion"

    @property
    def judge_calls_per_answer(self) -> int:
        """Calls of a judging model an answer takes at most; here none."""
        return 0

    def check_settings(self, settings: TaskSettings) -> None:
        """Refuse settings with which this benchmark cannot be run; called before a model is loaded.

        Raises:
            ConfigError: the interface is not the protocol's; a prompt is never turned into the other form.
            MissingPrerequisite: something is not there.
        """
        if settings.backend is None or settings.interface == self.interface:
            return
        fitting = [name for name in self.protocols if (name in self.chat_protocols) == (settings.interface == "chat")]
        other = f"or choose `protocol: {fitting[0]}`" if fitting else "which is all this benchmark has"
        raise ConfigError(
            f"interface: {settings.interface}, but {self.name} asks in the form of {self.interface} with protocol "
            f"{self.protocol}. Set `interface: {self.interface}`, {other}."
        )

    def describe_settings(self, settings: TaskSettings) -> dict[str, Any]:
        """Return what of the settings decides an answer or a score, besides backend and sampling, for `run.json`."""
        return {} if settings.backend is None else {"interface": settings.interface}

    def describe_environments(self, settings: TaskSettings) -> list[dict[str, Any]]:
        """Return further environments that make records, for `run.json`: other interpreters, other machines."""
        return []

    def open_backend(self, model: str, settings: TaskSettings, resources: Resources) -> Backend:
        """Open what answers this benchmark's samples; called where at least one answer is wanted.

        Args:
            model: Folder or name.
            settings: As checked.
            resources: Holds what is opened; benchmarks of one command share a loaded model through it.
        """
        if settings.backend is None:
            raise TypeError("a file of answers is scored; there is nothing to ask")
        backend = settings.backend.for_task(self.name)
        return resources.load(backend.make, model, settings.interface, settings.sampling)

    def choose_executor(
        self, executor: Executor, folder: Path, num_answers: int, settings: TaskSettings, resources: Resources
    ) -> Executor:
        """Return where answers are scored.

        Args:
            executor: The command's, which most benchmarks take.
            folder: The claimed run folder.
            num_answers: Of the whole run.
            settings: As checked.
            resources: Holds what is opened.
        """
        return executor

    @abstractmethod
    def fingerprint(self) -> dict[str, str]:
        """Everything besides the data that decides a verdict: tools and libraries with their versions."""
