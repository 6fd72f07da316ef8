"""`loss_type` and `loss_config` as users write them."""

import pytest

from dft_plugin.config import LossConfig, require_loss_type
from dft_plugin.core.column_filter import AUTO_BOUND
from dft_plugin.errors import ConfigError, ConflictError, OptionError, UnknownObjectiveError


@pytest.mark.parametrize("loss_config", [None, {}, "{}"])
def test_defaults(loss_config):
    config = LossConfig.parse("dft", loss_config)
    assert config.objective.name == "dft"
    assert config.record()["loss_type"] == "dft"


@pytest.mark.parametrize("loss_type", ["dtf", "DFT", 3, ["dft"]])
def test_unknown_objective(loss_type):
    with pytest.raises(UnknownObjectiveError, match=r"known: .*dft"):
        LossConfig.parse(loss_type)


@pytest.mark.parametrize(
    ("loss_config", "message"),
    [
        ({"chunksize": 3}, "no option 'chunksize'.*Shared options"),
        ("{chunk", "is not JSON"),
        ([1], "mapping"),
        ("[1]", "mapping"),
        ({1: 2}, "mapping"),
    ],
)
def test_bad_options(loss_config, message):
    with pytest.raises(OptionError, match=message):
        LossConfig.parse("dft", loss_config)


def test_options_without_an_objective_are_refused():
    assert not require_loss_type(None, None)
    assert require_loss_type("dft", None)
    with pytest.raises(ConfigError, match="add `loss_type: NAME`"):
        require_loss_type(None, {"chunk_size": 3})


@pytest.mark.parametrize(
    ("value", "bound"), [("off", None), (False, None), ("auto", AUTO_BOUND), (0.25, 0.25), (1, 1.0)]
)
def test_gradient_filter_as_people_write_it(value, bound):
    """YAML reads a bare `off` as False."""
    config = LossConfig.parse("dft", {"gradient_filter": value})
    assert config.shared.filter_bound == bound
    assert ("gradient_filter" in config.chosen()) == (bound is not None)


@pytest.mark.parametrize("value", [True, 0, -1.0, "on", float("inf")])
def test_gradient_filter_otherwise_is_refused(value):
    with pytest.raises(OptionError, match="gradient_filter"):
        LossConfig.parse("dft", {"gradient_filter": value})


def test_a_filter_needs_the_fused_loss():
    with pytest.raises(ConflictError, match="only the fused loss has a filtered gradient"):
        LossConfig.parse("dft", {"gradient_filter": "auto", "fused": False})
