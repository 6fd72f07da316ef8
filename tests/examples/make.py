"""Write the training files of `yaml_examples/` and the table of its README.

python -m tests.examples.make
"""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.examples.header import header
from tests.examples.keys import sections
from tests.examples.readme import with_table
from tests.examples.table import FRAMEWORKS, Run, load, runs

ROOT = Path(__file__).parents[2]
README = ROOT / "yaml_examples" / "README.md"


def text(run: Run) -> str:
    """A file, as it should read."""
    blocks = [f"### {title}\n{_dump(keys)}" for title, keys in sections(run).items()]
    return "\n\n".join([header(run), *blocks]) + "\n"


def expected() -> dict[str, str]:
    """Every generated file and its text, by path from the repository's root."""
    files: dict[str, str] = {}
    for run in runs(load()):
        if run.path in files:
            raise ValueError(f"two rows of recipes.yaml make {run.path}")
        files[run.path] = text(run)
    return files | {str(README.relative_to(ROOT)): with_table(README.read_text(), load())}


def present() -> set[str]:
    """The training files that are there."""
    folders = (ROOT / "yaml_examples" / framework for framework in FRAMEWORKS)
    return {str(path.relative_to(ROOT)) for folder in folders for path in folder.rglob("*.yaml")}


def _dump(keys: dict[str, object]) -> str:
    return "\n".join(f"{key}: {_value(value)}" for key, value in keys.items())


def _value(value: object) -> str:
    """A value on one line; PyYAML ends a bare scalar by a line of its own."""
    dumped = yaml.safe_dump(value, sort_keys=False, width=1000, default_flow_style=True)
    return dumped.removesuffix("\n").removesuffix("\n...")


def main() -> None:
    """Write what differs, and remove what no row makes any more."""
    files = expected()
    for path in present() - files.keys():
        (ROOT / path).unlink()
    for path, content in files.items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(content)


if __name__ == "__main__":
    main()
