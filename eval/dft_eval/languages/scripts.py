"""Languages that run as they are written: PHP, Bash, JavaScript."""

from __future__ import annotations

from typing import ClassVar

from dft_eval.languages.base import Execution, Language, Sentinel, as_bytes, binary
from dft_eval.sandbox.choose import Sandbox
from dft_eval.sandbox.program import Command, Limits
from dft_eval.sandbox.run import run_command

FROZEN_ASSERT = b'Object.freeze(require("node:assert"));\n'
"""Loaded before a JavaScript program, so that it cannot replace the assertions of its tests."""


class Php(Language):
    """PHP's command line."""

    name: ClassVar[str] = "php"
    install: ClassVar[str] = "apt-get install -y --no-install-recommends php-cli"
    binaries: ClassVar[tuple[str, ...]] = ("php",)
    version_command: ClassVar[tuple[str, ...]] = ("php", "--version")

    def execute(self, source: str, sentinel: Sentinel, sandbox: Sandbox, limits: Limits) -> Execution:
        """Run it; the sentinel is two arguments of `echo`, which no program can replace."""
        body = source.rstrip().removesuffix("?>")
        program = f"{body}\necho '{sentinel.first}', '{sentinel.second}';\n?>"
        command = Command((binary("php"), "-f", "test.php"), {"test.php": as_bytes(program)}, limits=limits)
        return Execution(True, run_command(sandbox, command))


class Bash(Language):
    """Bash with the usual small tools of the machine."""

    name: ClassVar[str] = "sh"
    install: ClassVar[str] = "apt-get install -y --no-install-recommends bash"
    binaries: ClassVar[tuple[str, ...]] = ("bash",)
    version_command: ClassVar[tuple[str, ...]] = ("bash", "--version")

    def execute(self, source: str, sentinel: Sentinel, sandbox: Sandbox, limits: Limits) -> Execution:
        """Run it; `set -e` of the tests ends it before the sentinel where one fails."""
        program = f"{source}\nbuiltin printf %s {sentinel.first}\nbuiltin printf %s {sentinel.second}\n"
        command = Command((binary("bash"), "test.sh"), {"test.sh": as_bytes(program)}, limits=limits)
        return Execution(True, run_command(sandbox, command))


class JavaScript(Language):
    """Node."""

    name: ClassVar[str] = "js"
    install: ClassVar[str] = "apt-get install -y --no-install-recommends nodejs"
    binaries: ClassVar[tuple[str, ...]] = ("node",)
    version_command: ClassVar[tuple[str, ...]] = ("node", "--version")

    def execute(self, source: str, sentinel: Sentinel, sandbox: Sandbox, limits: Limits) -> Execution:
        """Run it."""
        return Execution(True, run_command(sandbox, node_command(source, sentinel, limits)))


def node_command(source: str, sentinel: Sentinel, limits: Limits) -> Command:
    """A JavaScript program that prints the sentinel at its end."""
    ending = "".join(f';require("node:fs").writeSync(1, "{half}")' for half in (sentinel.first, sentinel.second))
    return Command(
        (binary("node"), "--max-old-space-size=1024", "--require", "./frozen.js", "test.js"),
        {"frozen.js": FROZEN_ASSERT, "test.js": as_bytes(f"{source}\n{ending};\n")},
        limits=limits,
    )
