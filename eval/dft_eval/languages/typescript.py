"""TypeScript: checked and translated by tsc, run by Node."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import ClassVar

from dft_eval.languages.base import (
    COMPILE_LIMITS,
    KEPT_ARTIFACT_BYTES,
    Execution,
    Language,
    Sentinel,
    as_bytes,
    binary,
    refused,
    version_of,
)
from dft_eval.languages.scripts import node_command
from dft_eval.languages.typescript_checker import check_program
from dft_eval.prerequisites import Missing
from dft_eval.sandbox.choose import Sandbox
from dft_eval.sandbox.program import ArtifactError, Command, Limits, Outcome, collecting, read_artifacts
from dft_eval.sandbox.run import run_command

VERSION = "5.5.4"
"""Another version accepts other programs, so no other will do."""

_FOLDERS = ("/usr/local/lib/node_modules", "/usr/lib/node_modules", "/usr/share/nodejs")
_MODES: dict[str, tuple[str, ...]] = {"es2015": ("--target", "ES2015", "--lib", "ES2015,DOM"), "defaults": ()}


class TypeScript(Language):
    """tsc 5.5.4 in the two modes the recorded evaluation used, one after the other."""

    name: ClassVar[str] = "ts"
    install: ClassVar[str] = f"npm install --global --prefix /usr/local typescript@{VERSION}"
    binaries: ClassVar[tuple[str, ...]] = ("node",)
    version_command: ClassVar[tuple[str, ...]] = ("node", "--version")

    def missing(self) -> tuple[Missing, ...]:
        """Node, and this very version of TypeScript."""
        compiler = () if _compiler() else (Missing(f"typescript {VERSION} in {' or '.join(_FOLDERS)}", self.install),)
        return (*super().missing(), *compiler)

    def fingerprint(self) -> dict[str, str]:
        """Both versions."""
        return {"ts": VERSION, "node": version_of(self.version_command)}

    def execute(self, source: str, sentinel: Sentinel, sandbox: Sandbox, limits: Limits) -> Execution:
        """Compile and run for ES2015; where that does not end well, once more with the compiler's defaults."""
        execution = self._attempt(source, "es2015", sentinel, sandbox, limits)
        outcome = execution.outcome
        if execution.is_compiled and outcome.status == "ok" and outcome.returncode == 0:
            return execution
        return self._attempt(source, "defaults", sentinel, sandbox, limits)

    def _attempt(self, source: str, mode: str, sentinel: Sentinel, sandbox: Sandbox, limits: Limits) -> Execution:
        translated = translate(as_bytes(source), mode, sandbox)
        if isinstance(translated, Outcome):
            return Execution(False, translated)
        return Execution(True, run_command(sandbox, node_command(translated, sentinel, limits)))


def translate(source: bytes, mode: str, sandbox: Sandbox) -> str | Outcome:
    """The program in JavaScript, or the outcome that says why not.

    Args:
        source: The program.
        mode: `es2015` or `defaults`.
        sandbox: Where.
    """
    compiler = _compiler()
    assert compiler is not None  # `missing` was asked before
    checked = check_program(sandbox, compiler.with_name("typescript.js"), source, mode)
    if checked is None:
        return translate_alone(source, mode, sandbox)
    if checked.errors:
        return Outcome("ok", 2, checked.errors.encode(errors="replace"), b"", 0.0, 0.0)
    return checked.translated


def translate_alone(source: bytes, mode: str, sandbox: Sandbox) -> str | Outcome:
    """Like `translate`, by a compiler that is started for this one program."""
    argv = (binary("node"), str(_compiler()), "test.ts", *_MODES[mode])
    command = Command(collecting(argv, "test.js"), {"test.ts": source}, limits=COMPILE_LIMITS, may_write=True)
    outcome = run_command(sandbox, command, kept_bytes=KEPT_ARTIFACT_BYTES)
    if outcome.status != "ok" or outcome.returncode != 0:
        return outcome
    try:
        return read_artifacts(outcome.stdout)["test.js"].decode(errors="surrogatepass")
    except (ArtifactError, KeyError, UnicodeDecodeError) as error:
        return refused(f"tsc: {error}")


@cache
def _compiler() -> Path | None:
    """Tsc of the pinned version."""
    for folder in _FOLDERS:
        package = Path(folder) / "typescript"
        if (package / "package.json").is_file() and f'"version": "{VERSION}"' in (package / "package.json").read_text():
            return package / "lib" / "tsc.js"
    return None
