"""Settings ms-swift runs must be refused with: one clear error, before any model is looked at."""

import importlib
import json
import sys
import types

import pytest

from dft_plugin.errors import ConfigError, ConflictError, IntegrationError, OptionError, UnknownObjectiveError
from tests.integrations import tiny
from tests.integrations.swift_runs import config, run_in_process, write_data

pytestmark = [
    pytest.mark.swift,
    pytest.mark.slow,
    # The framework's own imports and calls warn about things we do not decide.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture
def settings(tmp_path):
    """A configuration whose model and data do not exist: whoever touches them fails with another error."""
    return config(tmp_path / "no-model", tmp_path / "no-data.jsonl", tmp_path / "out")


@pytest.fixture
def integration():
    importlib.import_module("swift.arguments")
    return importlib.import_module("dft_plugin.integrations.ms_swift.hooks")


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"loss_type": "dtf"}, UnknownObjectiveError, r"loss_type='dtf'.*sft, dft.*ms-swift \(cross_entropy"),
        ({"loss_type": "dft", "loss_config": {"chunksize": 4}}, OptionError, "no option 'chunksize'"),
        ({"loss_type": "dft", "loss_config": {"chunk_size": "4"}}, OptionError, "chunk_size: Input should be a valid"),
        ({"loss_type": "dft", "loss_config": "{"}, OptionError, "not JSON"),
        ({"loss_type": "dft", "loss_config": "[1]"}, OptionError, "mapping"),
        ({"loss_config": {"floor": 0.1}}, ConfigError, "without loss_type"),
        ({"loss_type": "cross_entropy", "loss_config": {}}, ConfigError, "takes none"),
        ({"loss_type": "dft", "enable_dft_loss": True}, ConflictError, "name two losses"),
        ({"loss_type": "dft", "label_smoothing_factor": 0.1}, ConflictError, "label_smoothing_factor 0"),
        ({"loss_type": "dft", "use_liger_kernel": True}, ConflictError, "use_liger_kernel false"),
        ({"loss_type": "dft", "tuner_backend": "unsloth"}, ConflictError, "tuner_backend peft"),
        *[
            ({"loss_type": "dft", "task_type": task}, ConflictError, f"task_type={task}")
            for task in ("seq_cls", "embedding", "reranker", "generative_reranker", "decision")
        ],
    ],
)
@pytest.mark.parametrize("stage", ["sft", "pt"])
def test_bad_settings(settings, stage, bad, error, message):
    with pytest.raises(error, match=message):
        run_in_process({**settings, **bad}, stage=stage)


@pytest.mark.parametrize("rlhf_type", ["dpo", "kto", "grpo", "orpo", "gkd"])
def test_preference_and_policy_training_is_refused(settings, rlhf_type):
    with pytest.raises(ConflictError, match=f"loss_type=dft with rlhf_type={rlhf_type}"):
        preference = {"rlhf_type": rlhf_type, "loss_type": "dft", "truncation_strategy": "delete"}
        run_in_process({**settings, **preference}, stage="rlhf")


@pytest.mark.parametrize("loss_type", ["sigmoid", "sft"])
def test_the_preference_losses_keep_their_names(settings, loss_type):
    with pytest.raises(ValueError, match="no-model"):  # swift's own complaint: it went on to the model
        run_in_process({**settings, "rlhf_type": "dpo", "loss_type": loss_type}, stage="rlhf")


def test_options_from_the_environment(settings, monkeypatch):
    monkeypatch.setenv("DFT_LOSS_CONFIG", '{"nonsense": 1}')
    with pytest.raises(OptionError, match="environment variable DFT_LOSS_CONFIG: .*'nonsense'"):
        run_in_process({**settings, "loss_type": "dft"})
    with pytest.raises(ValueError, match="no-model"):  # without one of our losses the variable is nobody's
        run_in_process(settings)


def test_flag_and_environment_must_agree(settings, monkeypatch):
    monkeypatch.setenv("DFT_LOSS_CONFIG", '{"chunk_size": 8}')
    with pytest.raises(ConflictError, match=r"'chunk_size': 4.* DFT_LOSS_CONFIG .*'chunk_size': 8.* differ; unset"):
        run_in_process({**settings, "loss_type": "dft", "loss_config": {"chunk_size": 4}})
    with pytest.raises(ValueError, match="no-model"):
        run_in_process({**settings, "loss_type": "dft", "loss_config": {"chunk_size": 8}})


def test_a_task_the_model_decides_is_refused_before_it_is_loaded(tmp_path):
    model = tiny.make_text_model(tmp_path / "model")
    (model / "model.safetensors").unlink()
    settings = config(model, tmp_path / "no-data.jsonl", tmp_path / "out", loss_type="dft")
    with pytest.raises(ConflictError, match="task_type=seq_cls"):
        run_in_process({**settings, "num_labels": 2})


def test_a_template_with_a_loss_of_its_own_is_refused(tmp_path):
    from swift.template import TEMPLATE_MAPPING, Template

    from dft_plugin.integrations.ms_swift.settings import require_trainable

    own = [
        name
        for name, meta in TEMPLATE_MAPPING.items()
        if meta.template_cls.compute_sft_loss is not Template.compute_sft_loss
    ]
    assert own, "this test needs a template with a loss of its own"
    for name in own:
        meta = types.SimpleNamespace(template_cls=TEMPLATE_MAPPING[name].template_cls)
        args = types.SimpleNamespace(loss_type="dft", task_type="causal_lm", template=name, template_meta=meta)
        with pytest.raises(ConflictError, match=f"template={name}"):
            require_trainable(args)


def test_a_name_taken_by_another_plugin_is_refused(settings, integration, monkeypatch):
    from swift.loss import loss_map

    monkeypatch.setitem(loss_map, "dft", loss_map["cross_entropy"])
    with pytest.raises(IntegrationError, match=r"registered in ms-swift by swift\.loss\.causal_lm"):
        run_in_process({**settings, "loss_type": "dft"})


def test_a_module_that_could_not_be_extended_refuses_the_run(settings, integration, monkeypatch):
    monkeypatch.setitem(integration._failures, "swift.loss.mapping", IntegrationError("loss_map moved"))
    with pytest.raises(IntegrationError, match=r"swift\.loss\.mapping \(IntegrationError: loss_map moved\)"):
        run_in_process({**settings, "loss_type": "dft"})


def test_a_feature_that_went_away_refuses_the_run(settings, monkeypatch):
    from swift.trainers import Seq2SeqTrainer

    monkeypatch.setattr(Seq2SeqTrainer, "compute_loss", lambda self, batch: None)
    with pytest.raises(IntegrationError, match="compute_loss no longer takes model, inputs"):
        run_in_process({**settings, "loss_type": "dft"})


def test_every_probe_passes_here(integration):
    probes = integration.probe()
    assert len(probes) > 8 and [p for p in probes if not p.passed] == []


def test_another_version_warns_when_every_probe_passes(tmp_path, caplog, monkeypatch):
    from packaging.specifiers import SpecifierSet

    from dft_plugin import frameworks

    model, data = tiny.make_text_model(tmp_path / "model"), write_data(tmp_path / "data", 8)
    monkeypatch.setitem(frameworks.TESTED, "ms-swift", SpecifierSet(">=0.1,<0.2"))
    run_in_process(config(model, data / "toy.jsonl", tmp_path / "out", loss_type="dft", max_steps=1))
    assert "ms-swift 4.6.0 is outside the tested range" in caplog.text


def test_extending_can_be_taken_back(integration):
    from swift.arguments.base_args.model_args import ModelArguments
    from swift.loss import loss_map

    extended = set(loss_map)
    modules = [sys.modules[name] for name in integration._EXTENSIONS]
    integration.revert()
    try:
        assert not {"dft", "sft"} & set(loss_map) and not hasattr(ModelArguments.__post_init__, "__wrapped__")
    finally:
        for module in modules:
            integration.on_import(module)
    assert set(loss_map) == extended


def test_megatron_is_refused(monkeypatch):
    """swift's own Megatron arguments, with stand-ins for the packages they import, which need a GPU to install."""
    import swift

    names = ("megatron", "megatron.core", "megatron.core.transformer", "megatron.core.transformer.enums")
    for name in (*names, "mcore_bridge", "mcore_bridge.model", "swift.megatron", "swift.megatron.utils"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    for name in ("megatron.core", "swift.megatron"):
        sys.modules[name].__path__ = [f"{swift.__path__[0]}/megatron"]
    sys.modules["megatron"].core = sys.modules["megatron.core"]
    sys.modules["megatron.core"].__version__, sys.modules["megatron.core"].mpu = "0.16.0", None
    sys.modules["megatron.core.transformer.enums"].AttnBackend = object
    sys.modules["mcore_bridge.model"].get_mcore_model_type = sys.modules["mcore_bridge.model"].get_model_meta = None
    sys.modules["swift.megatron.utils"].initialize_megatron = None
    for name in list(sys.modules):
        if name.startswith("swift.megatron.arguments"):
            monkeypatch.delitem(sys.modules, name)
    package = types.ModuleType("swift.megatron.arguments")
    package.__path__ = [f"{swift.__path__[0]}/megatron/arguments"]
    monkeypatch.setitem(sys.modules, package.__name__, package)
    arguments = importlib.import_module("swift.megatron.arguments.sft_args")
    with pytest.raises(ConflictError, match="loss_type=dft with Megatron"):
        arguments.MegatronSftArguments(model="no-model", dataset=["no-data"], loss_type="dft")
    with pytest.raises(ValueError, match="no-model"):
        arguments.MegatronSftArguments(model="/no-model", dataset=["no-data"], loss_type=None)
    for name in ("megatron_args", "megatron_base_args", "sft_args"):
        monkeypatch.delitem(sys.modules, f"swift.megatron.arguments.{name}", raising=False)


def test_arguments_saved_by_a_plain_run_name_no_option(tmp_path):
    model, data = tiny.make_text_model(tmp_path / "model"), write_data(tmp_path / "data", 8)
    run_in_process(config(model, data / "toy.jsonl", tmp_path / "out", max_steps=1))
    saved = json.loads((tmp_path / "out" / "args.json").read_text())
    assert saved["loss_config"] is None and saved["loss_type"] is None
