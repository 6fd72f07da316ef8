"""What the conventions say about files, checked."""

import ast
import sys
from pathlib import Path

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
