"""No module imports itself through others, be it at its top or within a function."""

import graphlib

import pytest

grimp = pytest.importorskip("grimp", reason="comes with import-linter, a development tool")


def circle(package):
    """The modules of one circle, in order; empty where there is none."""
    graph = grimp.build_graph(package, exclude_type_checking_imports=True, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


@pytest.mark.parametrize("package", ["dft_plugin", "dft_eval"])
def test_no_module_imports_itself_through_others(package):
    assert circle(package) == []


def test_a_circle_within_functions_is_found(tmp_path, monkeypatch):
    package = tmp_path / "turning"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "a.py").write_text("def f():\n    from turning import b\n")
    (package / "b.py").write_text("from turning.a import f\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert set(circle("turning")) == {"turning.a", "turning.b"}
