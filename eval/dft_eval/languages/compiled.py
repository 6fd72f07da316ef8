"""Languages with a compiler: C++, Java, C#. Compilers run in a sandbox too; their results cross as bytes."""

from __future__ import annotations

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
    new_sentinel,
    refused,
)
from dft_eval.languages.precompiled import precompiled_headers
from dft_eval.prerequisites import Missing
from dft_eval.sandbox.choose import Sandbox, open_sandbox
from dft_eval.sandbox.program import MIB, ArtifactError, Command, Limits, Outcome, collecting, read_artifacts
from dft_eval.sandbox.run import run_command


class Cpp(Language):
    """g++ in C++17 mode with a precompiled `bits/stdc++.h`."""

    name: ClassVar[str] = "cpp"
    install: ClassVar[str] = "apt-get install -y --no-install-recommends g++ libboost-dev"
    binaries: ClassVar[tuple[str, ...]] = ("g++",)
    version_command: ClassVar[tuple[str, ...]] = ("g++", "--version")

    def execute(self, source: str, sentinel: Sentinel, sandbox: Sandbox, limits: Limits) -> Execution:
        """Compile and run; the sentinel is printed where `main` ends."""
        ending = "".join(f'::std::fputs("{half}", stdout);' for half in (sentinel.first, sentinel.second))
        program = _before_last(source, "}", 1, f"\n{ending}\n")
        headers = precompiled_headers()
        argv = (binary("g++"), "-std=c++17", f"-I{headers}", "-include", "bits/stdc++.h", "test.cpp", "-o", "a.out")
        compiled = _compile(sandbox, argv, "a.out", {"test.cpp": as_bytes(program)}, (headers,))
        if isinstance(compiled, Outcome):
            return Execution(False, compiled)
        command = Command(("./a.out",), compiled, frozenset({"a.out"}), limits=limits)
        return Execution(True, run_command(sandbox, command))


class Java(Language):
    """The JDK, with the tuples library the benchmark's tests use.

    Args:
        jar: The library.
    """

    name: ClassVar[str] = "java"
    install: ClassVar[str] = "apt-get install -y --no-install-recommends default-jdk-headless"
    binaries: ClassVar[tuple[str, ...]] = ("javac", "java")
    version_command: ClassVar[tuple[str, ...]] = ("java", "-version")

    def __init__(self, jar: Path) -> None:
        self._jar = jar

    def execute(self, source: str, sentinel: Sentinel, sandbox: Sandbox, limits: Limits) -> Execution:
        """Compile and run with assertions on; the sentinel is printed where `main` ends."""
        ending = "".join(f'java.lang.System.out.print("{half}");' for half in (sentinel.first, sentinel.second))
        program = _before_last(source, "}", 2, f"\n{ending}\n")
        library = {self._jar.name: self._jar.read_bytes()}
        flags = ("-J-XX:TieredStopAtLevel=1", "-J-XX:+UseSerialGC", "-J-XX:-UsePerfData", "-J-Xmx1g")
        argv = (binary("javac"), *flags, "-encoding", "UTF8", "-cp", self._jar.name, "Problem.java")
        compiled = _compile(sandbox, argv, "*.class", {"Problem.java": as_bytes(program), **library})
        if isinstance(compiled, Outcome):
            return Execution(False, compiled)
        options = ("-ea", "-Xmx512m", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-Xshare:auto")
        run = (binary("java"), *options, "-cp", f".:{self._jar.name}", "Problem")
        return Execution(True, run_command(sandbox, Command(run, {**compiled, **library}, limits=limits)))


class CSharp(Language):
    """Mono."""

    name: ClassVar[str] = "cs"
    install: ClassVar[str] = "apt-get install -y --no-install-recommends mono-devel"
    binaries: ClassVar[tuple[str, ...]] = ("mcs", "mono")
    version_command: ClassVar[tuple[str, ...]] = ("mono", "--version")

    def missing(self) -> tuple[Missing, ...]:
        """Mono, and a sandbox it runs in: it needs `/proc/self` in every process, which landlock does not give."""
        return super().missing() or _missing_runtime(self, open_sandbox())

    def execute(self, source: str, sentinel: Sentinel, sandbox: Sandbox, limits: Limits) -> Execution:
        """Compile and run; failed assertions go to stderr, the sentinel is printed where `Main` ends."""
        ending = "".join(f'global::System.Console.Out.Write("{half}");' for half in (sentinel.first, sentinel.second))
        program = _before_last(source, "}", 2, f"\n{ending}\n")
        argv = (binary("mcs"), "-d:DEBUG", "-r:System.Numerics.dll", "Program.cs")
        compiled = _compile(sandbox, argv, "Program.exe", {"Program.cs": as_bytes(program)})
        if isinstance(compiled, Outcome):
            return Execution(False, compiled)
        env = {"MONO_TRACE_LISTENER": "Console.Error"}
        command = Command((binary("mono"), "Program.exe"), compiled, limits=limits, env=env)
        return Execution(True, run_command(sandbox, command))


def _missing_runtime(language: CSharp, sandbox: Sandbox) -> tuple[Missing, ...]:
    sentinel = new_sentinel()
    outcome = language.execute("class P { static void Main() {\n}\n}\n", sentinel, sandbox, Limits()).outcome
    if outcome.status == "ok" and outcome.stdout.decode(errors="replace") == sentinel.text:
        return ()
    said = outcome.reason or outcome.stderr.decode(errors="replace").strip().partition("\n")[0]
    return (Missing(f"a sandbox mono runs in (under {sandbox.name}: {said[:200]})", "DFT_SANDBOX=bubblewrap"),)


def _compile(
    sandbox: Sandbox,
    argv: tuple[str, ...],
    results: str,
    files: dict[str, bytes],
    read_only: tuple[Path, ...] = (),
) -> dict[str, bytes] | Outcome:
    """Return the compiler's files, or the outcome that says why there are none."""
    command = Command(collecting(argv, results), files, limits=COMPILE_LIMITS, read_only=read_only, may_write=True)
    outcome = run_command(sandbox, command, kept_bytes=KEPT_ARTIFACT_BYTES)
    if outcome.status != "ok" or outcome.returncode != 0:
        return outcome
    try:
        results_by_name = read_artifacts(outcome.stdout)
    except ArtifactError as error:
        return refused(f"{argv[0]}: {error}")
    num_bytes = sum(map(len, results_by_name.values()))
    if num_bytes > Limits().disk_mib * MIB:
        return refused(f"{argv[0]}: {num_bytes // MIB} MiB of results; at most {Limits().disk_mib}.")
    return results_by_name


def _before_last(source: str, text: str, count: int, addition: str) -> str:
    """The source with an addition before the `count`-th last occurrence of a text; unchanged where it has fewer."""
    position = len(source)
    for _ in range(count):
        position = source.rfind(text, 0, position)
        if position < 0:
            return source
    return source[:position] + addition + source[position:]
