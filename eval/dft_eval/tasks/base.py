"""What a benchmark is to the rest of the evaluation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dft_eval.metrics import Estimate, mean_by_problem
from dft_eval.records.schema import Answer, Sample, Score


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
        """What the file must have."""
        return self.sha256 or self.md5


@dataclass(frozen=True)
class Missing:
    """Something a benchmark cannot run without.

    Attributes:
        what: For example `php`.
        install: The command that installs it.
    """

    what: str
    install: str


class Task(ABC):
    """One benchmark.

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
    harness: ClassVar[str] = ""
    """Name of the software that asks a model in our place, with prompts of its own; empty where a backend does."""

    def __init__(self, data_dir: Path, protocol: str) -> None:
        self.data_dir = data_dir
        self.protocol = protocol

    @abstractmethod
    def samples(self) -> Sequence[Sample]:
        """Every sample, in the benchmark's own order."""

    def missing(self) -> Sequence[Missing]:
        """What must be installed before anything of this task can be scored; data files are checked elsewhere."""
        return ()

    @abstractmethod
    def score(self, answer: Answer) -> Score:
        """Judge one answer; called in a worker process, never raises for what a model may write."""

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

    @abstractmethod
    def fingerprint(self) -> dict[str, str]:
        """Everything besides the data that decides a verdict: tools and libraries with their versions."""
