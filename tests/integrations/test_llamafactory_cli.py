"""The real `llamafactory-cli train`: alone, relaunched under torchrun, without autoload, inert without loss_type."""

import hashlib
import sys
from pathlib import Path

import pytest

from tests.integrations import tiny
from tests.integrations.llamafactory_runs import CLI, config, history, run_cli

pytestmark = [pytest.mark.llamafactory, pytest.mark.slow]

PLUGIN = Path(__file__).parents[2] / "plugins" / "llamafactory_dft.py"
AUTOLOAD_OFF = {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
TWO_RANKS = {"FORCE_TORCHRUN": "1", "NPROC_PER_NODE": "2"}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("cli")
    return tiny.make_text_model(root / "model"), tiny.write_llamafactory_data(root / "data"), root


@pytest.fixture(scope="module")
def train(inputs):
    model, data, root = inputs

    def run(name, *, env=None, command=None, **overrides):
        settings = config(model, data, root / name, **overrides)
        result = run_cli(settings, env=env, command=command)
        assert result.returncode == 0, result.stderr[-4000:]
        return Path(settings["output_dir"]), result

    return run


@pytest.fixture(scope="module")
def one_process(train):
    return train("one", loss_type="dft")


def losses(folder):
    return [entry[key] for entry in history(folder) for key in ("loss", "grad_norm")]


def test_banner_names_the_live_objective(one_process):
    _, result = one_process
    lines = [line for line in (result.stdout + result.stderr).splitlines() if "dft: sft trainer loss -> dft" in line]
    assert len(lines) == 1 and "llamafactory 0.9.5" in lines[0]


def test_two_ranks_under_the_torchrun_relaunch_agree_with_one(train, one_process):
    folder, result = train("two", env=TWO_RANKS, loss_type="dft", per_device_train_batch_size=2)
    assert losses(folder) == pytest.approx(losses(one_process[0]), rel=1e-5)
    assert (result.stdout + result.stderr).count("dft: sft trainer loss -> dft") == 1, "the banner belongs to rank 0"
    assert history(folder)[0]["nll"] == pytest.approx(history(one_process[0])[0]["nll"], rel=1e-6)


def test_worker_entry_where_autoload_is_off(train, one_process):
    folder, _ = train("entry", env=AUTOLOAD_OFF, command=[sys.executable, str(PLUGIN)], loss_type="dft")
    assert losses(folder) == losses(one_process[0])


def test_without_loss_type_the_run_is_stock_to_the_bit(train):
    def digest(folder):
        return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()

    with_plugin, _ = train("inert")
    stock, _ = train("stock", env=AUTOLOAD_OFF)
    assert losses(with_plugin) == losses(stock)
    assert digest(with_plugin) == digest(stock)


def test_the_new_trainer_says_why_it_does_not_know_the_loss(tmp_path):
    command = [str(CLI), "sft"]
    result = run_cli({"output_dir": str(tmp_path), "loss_type": "dft"}, env={"USE_V1": "1"}, command=command)
    assert result.returncode != 0
    assert "ConflictError: loss_type is unknown under USE_V1=1" in result.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "overrides", "env", "message"),
    [
        ("typo", {"loss_type": "dtf"}, {}, "UnknownObjectiveError"),
        ("autoload-off", {"loss_type": "dft"}, AUTOLOAD_OFF, "loss_type"),
    ],
)
def test_bad_settings_end_the_program(inputs, name, overrides, env, message):
    model, data, root = inputs
    result = run_cli(config(model, data, root / name, **overrides), env=env)
    assert result.returncode != 0
    assert message in result.stderr.strip().splitlines()[-1]
    assert not (root / name / "trainer_state.json").exists()
