"""Languages by the name the benchmark gives them."""

from __future__ import annotations

from pathlib import Path

from dft_eval.languages.base import Language
from dft_eval.languages.compiled import Cpp, CSharp, Java
from dft_eval.languages.scripts import Bash, JavaScript, Php
from dft_eval.languages.typescript import TypeScript


def language_named(name: str, jar: Path) -> Language:
    """The toolchain of a language.

    Args:
        name: For example `cpp`.
        jar: The tuples library of the Java tests.
    """
    if name == Java.name:
        return Java(jar)
    kinds: tuple[type[Language], ...] = (Cpp, CSharp, Php, Bash, JavaScript, TypeScript)
    return {kind.name: kind for kind in kinds}[name]()
