"""A programming language, as benchmarks use it."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

from dft_eval.prerequisites import Missing
from dft_eval.sandbox.choose import Sandbox
from dft_eval.sandbox.program import Limits, Outcome

COMPILE_LIMITS = Limits(cpu_s=60, wall_s=300, memory_mib=3072, disk_mib=256, output_mib=256)
KEPT_ARTIFACT_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True)
class Sentinel:
    """The text printed after the last test: two random halves that are never next to each other in the source."""

    first: str
    second: str

    @property
    def text(self) -> str:
        """Return the text that stdout must end with."""
        return self.first + self.second


def new_sentinel() -> Sentinel:
    """Another one for every run."""
    return Sentinel(secrets.token_hex(16), secrets.token_hex(16))


@dataclass(frozen=True)
class Execution:
    """The last step that a program reached, and its outcome.

    Attributes:
        is_compiled: False where the compiler refused it; then `outcome` is the compiler's.
        outcome: Of the last step.
    """

    is_compiled: bool
    outcome: Outcome


class Language(ABC):
    """A toolchain. Instances are cheap to make and picklable."""

    name: ClassVar[str]
    install: ClassVar[str]
    binaries: ClassVar[tuple[str, ...]]
    version_command: ClassVar[tuple[str, ...]]

    def missing(self) -> tuple[Missing, ...]:
        """Return the tools that must be installed first."""
        return tuple(Missing(name, self.install) for name in self.binaries if find_binary(name) is None)

    def fingerprint(self) -> dict[str, str]:
        """The toolchain's version."""
        return {self.name: version_of(self.version_command)}

    @abstractmethod
    def execute(self, source: str, sentinel: Sentinel, sandbox: Sandbox, limits: Limits) -> Execution:
        """Compile and run a complete program that ends with its tests.

        Args:
            source: The program; the sentinel is put behind its last test.
            sentinel: What to print there.
            sandbox: Where.
            limits: Of the run; compilers have their own.
        """


@cache
def find_binary(name: str) -> str | None:
    """Absolute path of a tool as seen inside every sandbox: below /usr."""
    return shutil.which(name, path="/usr/local/bin:/usr/bin:/usr/lib/jvm/default-java/bin")


def binary(name: str) -> str:
    """Like `find_binary`, where `missing` has been asked before.

    Raises:
        FileNotFoundError: the tool was removed since.
    """
    path = find_binary(name)
    if path is None:
        raise FileNotFoundError(f"{name} is not below /usr; run `make toolchains`.")
    return path


@cache
def version_of(command: tuple[str, ...]) -> str:
    """First line a tool prints about itself; tools are trusted, so this needs no sandbox."""
    run = subprocess.run(
        (binary(command[0]), *command[1:]), capture_output=True, text=True, check=True, cwd=Path("/"), timeout=60
    )
    return (run.stdout or run.stderr).strip().splitlines()[0]


def refused(reason: str) -> Outcome:
    """The outcome of a compiler whose results cannot be used: the program's fault, like an error in its source."""
    return Outcome("ok", 1, b"", reason.encode(errors="replace"), 0.0, 0.0)


def as_bytes(source: str) -> bytes:
    """The source as a file: what is no valid Unicode stays invalid, for the toolchain to refuse."""
    return source.encode("utf-8", errors="surrogatepass")
