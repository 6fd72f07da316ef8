"""The wheel holds both packages, nothing named `eval`, and works from an empty directory."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    # a copy, so that building leaves nothing behind in the checkout
    source = out / "source"
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, files.split("\0")):
        if (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(build, check=True, capture_output=True, text=True)
    return next(out.glob("*.whl"))


def test_contents(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {"dft_plugin", "dft_eval"} < tops and not {"eval", "tests", "plugins"} & tops
    for source in (ROOT / "dft_plugin", ROOT / "eval" / "dft_eval"):
        for file in source.rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                assert str(file.relative_to(source.parent)) in names


def test_installed_wheel_runs_from_an_empty_directory(wheel, tmp_path):
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    zipfile.ZipFile(wheel).extractall(site)
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r}); sys.argv = ['dft', '--help'];"
        "import dft_plugin, dft_eval; assert 'site' in dft_plugin.__file__ and 'site' in dft_eval.__file__;"
        "from dft_plugin.cli import main; main()"
    )
    result = subprocess.run([sys.executable, "-I", "-c", code], cwd=empty, capture_output=True, text=True, check=False)
    assert result.returncode == 0 and "objectives" in result.stdout, result.stderr
