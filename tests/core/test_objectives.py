"""The objective table and its error messages."""

import subprocess
import sys

import pytest
import torch

from dft_plugin import OBJECTIVES, get_objective
from dft_plugin.core.objectives import Objective, TokenInputs
from dft_plugin.errors import OptionError, UnknownObjectiveError


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_specification_is_complete(name):
    cls = OBJECTIVES[name]
    assert cls.name == name
    assert all((cls.formula, cls.source, cls.advice, cls.__doc__))
    assert isinstance(get_objective(name), Objective)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_weights_are_finite_and_never_negative_at_the_extremes(name):
    logps = torch.tensor([0.0, -1e-7, -1.0, -90.0, -1e4])
    zeros = torch.zeros_like(logps)
    tokens = TokenInputs(
        token_logps=logps,
        targets=zeros.long(),
        entropy=torch.tensor([0.0, 1e-7, 1.0, 11.0, -1e-7]),
        top_entropy=zeros,
        concentration=torch.tensor([1.0, 1.0, 0.5, 1e-6, 0.0]),
        ref_logps=logps.flip(0),
        segments=torch.tensor([0, 0, 1, 1, 1]),
        num_segments=2,
    )
    weight = get_objective(name).weight(tokens)
    assert weight.shape == logps.shape and weight.dtype == logps.dtype
    assert torch.isfinite(weight).all() and (weight >= 0).all()


@pytest.mark.parametrize("name", ["dtf", "", None, ["dft"]])
def test_unknown_objective_lists_the_known_ones(name):
    with pytest.raises(UnknownObjectiveError, match=r"known: .*dft"):
        get_objective(name)


def test_unknown_option_is_named():
    with pytest.raises(OptionError, match="no option 'temperature'"):
        get_objective("dft", temperature=1.0)


def test_listing_the_table_imports_no_torch():
    code = "import sys; from dft_plugin import OBJECTIVES; assert OBJECTIVES; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
