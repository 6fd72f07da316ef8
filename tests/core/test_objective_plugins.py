"""Objectives of other packages: found by entry point, usable like ours, refused by name where broken."""

import configparser
import re
import subprocess
import sys
from pathlib import Path

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


TRAIN = """
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM
from dft_plugin.config import LossConfig
from dft_plugin.training.trainer_loss import TrainerLoss

def train(loss_type, options):
    torch.manual_seed(0)
    sizes = dict(vocab_size=61, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2)
    model = Qwen2ForCausalLM(Qwen2Config(**sizes, num_key_value_heads=2, initializer_range=0.5))
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    loss = TrainerLoss(LossConfig.parse(loss_type, options))
    loss.attach(model)
    inputs = torch.randint(61, (2, 9))
    values = []
    for _ in range(3):
        with loss.forward(model, {"input_ids": inputs, "labels": inputs}, num_items_in_batch=16):
            value = loss(model(input_ids=inputs), inputs, num_items_in_batch=16)
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        values.append(float(value))
    assert loss.path.name == ("fused" if options["fused"] else "logits")
    return torch.tensor(values)

mine = train("square", {"fused": True})
torch.testing.assert_close(mine, train("square", {"fused": False}), rtol=1e-4, atol=1e-6)
torch.testing.assert_close(mine, train("power", {"alpha": 2.0, "fused": True}), rtol=1e-5, atol=1e-7)
assert (mine[0] - mine[2]).abs() > 1e-3, "nothing was trained"
assert not torch.allclose(mine, train("sft", {"fused": True}), rtol=0.1)
"""


def install_in(folder, name, source, entry_points):
    """Write a module and its metadata, as an installer does.

    Returns:
        What runs code with the folder on the path.
    """
    (folder / f"{name}.py").write_text(source)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[dft_plugin.objectives]\n" + "\n".join(entry_points))

    def python(code):
        command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(folder)!r})\n{code}"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return python


@pytest.fixture
def package(tmp_path):
    """Install a package that offers objectives, by its metadata alone."""

    def install(entry_points):
        return install_in(tmp_path, "other_objectives", GOOD, entry_points)

    return install


@pytest.mark.slow
def test_the_steps_of_the_page_train_a_new_objective_fused(tmp_path):
    page = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
    section = page.split("## An objective in another package\n")[1].split("\n## ")[0]
    ((language, source), (metadata_language, metadata)) = re.findall(r"^```(\w+)\n(.*?)^```", section, re.DOTALL | re.M)
    assert (language, metadata_language) == ("python", "toml")
    offered = configparser.ConfigParser()  # reads this much TOML, which Python 3.10 cannot
    offered.read_string(metadata)
    lines = [f"{k} = {v.strip(chr(34))}" for k, v in offered['project.entry-points."dft_plugin.objectives"'].items()]
    python = install_in(tmp_path, "my_package", source, lines)
    result = python(TRAIN)
    assert result.returncode == 0, result.stderr


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
