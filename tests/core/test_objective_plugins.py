"""Objectives of other packages: found by entry point, usable like ours, refused by name where broken."""

import subprocess
import sys

import pytest

GOOD = """
from dataclasses import dataclass
from dft_plugin import Objective

@dataclass(frozen=True)
class Square(Objective):
    '''w = p^2.'''
    name, formula, source, advice = "square", "w = p^2", "ours", "an example"

    def weight(self, tokens):
        return (2 * tokens.token_logps).exp()

class NotAnObjective:
    pass
"""

USE = """
import torch
from dft_plugin import get_objective, linear_loss, logits_loss, OBJECTIVES
from dft_plugin.config import LossConfig
assert "square" in OBJECTIVES and LossConfig.parse("square").objective == get_objective("square")
torch.manual_seed(0)
hidden, weight, labels = torch.randn(2, 5, 4), torch.randn(9, 4), torch.randint(9, (2, 5))
fused = linear_loss(hidden, weight, labels, objective="square").loss
torch.testing.assert_close(fused, logits_loss(hidden @ weight.T, labels, objective="square").loss)
torch.testing.assert_close(fused, linear_loss(hidden, weight, labels, objective=get_objective("power", alpha=2.0)).loss)
"""


@pytest.fixture
def package(tmp_path):
    """Install a package that offers objectives, by its metadata alone."""

    def install(entry_points):
        (tmp_path / "other_objectives.py").write_text(GOOD)
        info = tmp_path / "other_objectives-1.0.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-objectives\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[dft_plugin.objectives]\n" + "\n".join(entry_points))

        def python(code):
            command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{code}"]
            return subprocess.run(command, capture_output=True, text=True, check=False)

        return python

    return install


def test_an_objective_of_another_package_trains_like_ours(package):
    result = package(["square = other_objectives:Square", "dft = other_objectives:Square"])(
        USE + "\nassert get_objective('dft').formula == 'w = p', 'our names stay ours'"
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("entry_point", "message"),
    [
        ("square = other_objectives:Missing", "could not be loaded: AttributeError"),
        ("square = absent_module:Square", "could not be loaded: ModuleNotFoundError"),
        ("square = other_objectives:NotAnObjective", "a frozen dataclass derived from dft_plugin.Objective"),
        ("cube = other_objectives:Square", "calls itself 'square'"),
    ],
)
def test_a_broken_one_fails_with_its_name(package, entry_point, message):
    name = entry_point.split()[0]
    result = package([entry_point])(f"from dft_plugin import get_objective; get_objective({name!r})")
    assert "ObjectivePluginError" in result.stderr
    assert f"objective {name!r} of other-objectives" in result.stderr and message in result.stderr
