"""What the conventions say about files, checked."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [*(ROOT / "dft_plugin").rglob("*.py"), *(ROOT / "eval").rglob("*.py"), *(ROOT / "plugins").glob("*.py")]


def test_no_drawers():
    assert not [path for path in SOURCES if path.stem in {"utils", "helpers", "misc", "common"}]


def test_files_loaded_by_path_hide_no_module():
    names = {path.stem for folder in ("plugins", "eval") for path in (ROOT / folder).glob("*.py")} - {"__init__"}
    assert not names & (set(sys.stdlib_module_names) | {"swift", "llamafactory", "torch", "transformers", "datasets"})


def test_plugins_hold_no_logic():
    for path in (ROOT / "plugins").glob("*.py"):
        text = path.read_text()
        assert len(text.splitlines()) <= 40
        assert not [node for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.FunctionDef, ast.ClassDef))]


@pytest.mark.parametrize("package", ["dft_plugin", "eval/dft_eval"])
def test_docstrings_are_imperatives_or_noun_phrases(package):
    questions = []
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                first = (ast.get_docstring(node) or "").split(maxsplit=1)[:1]
                if first and first[0].lower() in {"what", "whether", "where", "how", "which", "why", "when"}:
                    questions.append(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}")
    assert not questions
