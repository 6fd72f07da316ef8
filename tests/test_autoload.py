"""The `torch.backends` entry point: inert, cheap, and never able to break `import torch`."""

import subprocess
import sys
from importlib.metadata import entry_points


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)


def test_entry_point_is_installed():
    assert any(point.value == "dft_plugin.autoload:install" for point in entry_points(group="torch.backends"))


def test_import_dft_plugin_imports_neither_torch_nor_a_framework():
    result = run(
        "import dft_plugin, sys; print(sorted({'torch', 'transformers', 'llamafactory', 'swift'} & set(sys.modules)))"
    )
    assert result.stdout.strip() == "[]", result.stderr


def test_import_torch_installs_one_finder_and_imports_no_integration():
    result = run(
        "import torch, sys; from dft_plugin.autoload import FrameworkFinder, install; install();"
        "print(sum(isinstance(f, FrameworkFinder) for f in sys.meta_path),"
        "[m for m in sys.modules if m.startswith('dft_plugin.integrations') or m == 'pydantic'])"
    )
    assert result.stdout.strip() == "1 []", result.stderr


def test_a_broken_integration_breaks_neither_torch_nor_the_framework(tmp_path):
    package = tmp_path / "framework"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "trainer.py").write_text("ANSWER = 42\n")
    result = run(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r});"
        "from dft_plugin import autoload;"
        "autoload.HOOKS.update({'framework.trainer': 'dft_plugin.integrations.does_not_exist'});"
        "import torch, framework.trainer; print(framework.trainer.ANSWER)"
    )
    assert result.returncode == 0 and result.stdout.strip() == "42"
    assert "could not extend framework.trainer" in result.stderr


def test_autoload_can_be_switched_off():
    result = run(
        "import os; os.environ['TORCH_DEVICE_BACKEND_AUTOLOAD'] = '0';"
        "import torch, sys; print('dft_plugin' in sys.modules)"
    )
    assert result.stdout.strip() == "False", result.stderr
