"""Settings LLaMA-Factory runs must be refused with: one clear error, before any model is loaded."""

import pytest

from dft_plugin.errors import ConfigError, ConflictError, IntegrationError, OptionError, UnknownObjectiveError
from tests.integrations import tiny
from tests.integrations.llamafactory_runs import config, run_in_process

pytestmark = [pytest.mark.llamafactory, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def settings(tmp_path):
    """A configuration whose model and data do not exist: whoever touches them fails with another error."""
    return config(tmp_path / "no-model", tmp_path / "no-data", tmp_path / "out")


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"loss_type": "dtf"}, UnknownObjectiveError, r"loss_type='dtf'.*known: .*dft"),
        ({"loss_type": ["dft"]}, UnknownObjectiveError, r"known: .*dft"),
        ({"loss_type": "dft", "loss_config": {"chunksize": 4}}, OptionError, "no option 'chunksize'"),
        ({"loss_type": "dft", "loss_config": "{"}, OptionError, "not JSON"),
        ({"loss_type": "dft", "loss_config": [1]}, OptionError, "mapping"),
        ({"loss_config": {"chunk_size": 4}}, ConfigError, "without loss_type"),
        ({"loss_type": "dft", "use_dft_loss": True}, ConflictError, "use_dft_loss"),
        ({"loss_type": "sft", "use_asft_loss": True}, ConflictError, "use_asft_loss"),
        ({"loss_type": "dft", "use_eaft_loss": True}, ConflictError, "use_eaft_loss"),
        ({"loss_type": "dft", "label_smoothing_factor": 0.1}, ConflictError, "label_smoothing_factor: 0"),
        ({"loss_type": "dft", "use_hyper_parallel": True}, ConflictError, "use_hyper_parallel"),
        *[({"loss_type": "dft", "stage": stage}, ConflictError, f"stage={stage}") for stage in ("rm", "dpo", "kto")],
    ],
)
def test_bad_settings(settings, bad, error, message):
    with pytest.raises(error, match=message):
        run_in_process({**settings, **bad})


@pytest.mark.parametrize("option", ["enable_liger_kernel", "use_unsloth", "use_kt"])
def test_kernels_that_replace_the_loss_are_refused(settings, option):
    # LLaMA-Factory itself refuses them first where their package is absent, as it is here
    from llamafactory.hparams.parser import _parse_train_args

    from dft_plugin.integrations.llamafactory.hooks import _refuse_conflicts

    model_args, _, training_args, finetuning_args, _ = _parse_train_args({**settings, "loss_type": "dft", option: True})
    with pytest.raises(ConflictError, match=f"{option}=true"):
        _refuse_conflicts(model_args, training_args, finetuning_args)


def test_a_module_that_could_not_be_extended_refuses_the_run(settings, monkeypatch):
    from dft_plugin.integrations.llamafactory import hooks as integration

    monkeypatch.setitem(integration._failures, "llamafactory.train.sft.trainer", IntegrationError("compute_loss moved"))
    with pytest.raises(IntegrationError, match=r"train\.sft\.trainer could not be extended \(compute_loss moved\)"):
        run_in_process({**settings, "loss_type": "dft"})


def test_a_trainer_imported_before_the_plugin_refuses_the_run(settings, monkeypatch):
    import llamafactory.train.sft.workflow as workflow

    monkeypatch.setattr(workflow, "CustomSeq2SeqTrainer", workflow.CustomSeq2SeqTrainer.__mro__[1])
    with pytest.raises(IntegrationError, match="from before dft-plugin was loaded"):
        run_in_process({**settings, "loss_type": "dft"})


def test_another_version_warns_when_every_probe_passes(tmp_path, caplog, monkeypatch):
    from packaging.specifiers import SpecifierSet

    from dft_plugin import frameworks

    model, data = tiny.make_text_model(tmp_path / "model"), tiny.write_llamafactory_data(tmp_path / "data", 8)
    monkeypatch.setitem(frameworks.TESTED, "llamafactory", SpecifierSet(">=0.1,<0.2"))
    run_in_process(config(model, data, tmp_path / "out", loss_type="dft", max_steps=1))
    assert "llamafactory 0.9.5 is outside the tested range" in caplog.text


def test_extending_can_be_taken_back():
    import llamafactory.hparams.finetuning_args as module

    from dft_plugin.integrations.llamafactory import hooks as integration

    extended = module.FinetuningArguments
    integration.revert()
    try:
        assert not hasattr(module.FinetuningArguments(), "loss_type")
    finally:
        integration._patches.replace(module, "FinetuningArguments", lambda original: extended)
