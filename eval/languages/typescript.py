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
    version_of,
)
from dft_eval.languages.scripts import node_command
from dft_eval.sandbox.choose import Sandbox
from dft_eval.sandbox.program import ArtifactError, Command, Limits, collecting, infra_error, read_artifacts
from dft_eval.sandbox.run import run_command
from dft_eval.tasks.base import Missing

VERSION = "5.5.4"
"""Another version accepts other programs, so no other will do."""

_FOLDERS = ("/usr/local/lib/node_modules", "/usr/lib/node_modules", "/usr/share/nodejs")
_ATTEMPTS = (("--target", "ES2015", "--lib", "ES2015,DOM"), ())


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
        execution = self._attempt(source, _ATTEMPTS[0], sentinel, sandbox, limits)
        outcome = execution.outcome
        if execution.is_compiled and outcome.status == "ok" and outcome.returncode == 0:
            return execution
        return self._attempt(source, _ATTEMPTS[1], sentinel, sandbox, limits)

    def _attempt(
        self, source: str, options: tuple[str, ...], sentinel: Sentinel, sandbox: Sandbox, limits: Limits
    ) -> Execution:
        argv = (binary("node"), str(_compiler()), "test.ts", *options)
        command = Command(
            collecting(argv, "test.js"), {"test.ts": as_bytes(source)}, limits=COMPILE_LIMITS, may_write=True
        )
        outcome = run_command(sandbox, command, kept_bytes=KEPT_ARTIFACT_BYTES)
        if outcome.status != "ok" or outcome.returncode != 0:
            return Execution(False, outcome)
        try:
            translated = read_artifacts(outcome.stdout)["test.js"].decode(errors="surrogatepass")
        except (ArtifactError, KeyError, UnicodeDecodeError) as error:
            return Execution(False, infra_error(f"tsc: {error}"))
        return Execution(True, run_command(sandbox, node_command(translated, sentinel, limits)))


@cache
def _compiler() -> Path | None:
    """Tsc of the pinned version."""
    for folder in _FOLDERS:
        package = Path(folder) / "typescript"
        if (package / "package.json").is_file() and f'"version": "{VERSION}"' in (package / "package.json").read_text():
            return package / "lib" / "tsc.js"
    return None
