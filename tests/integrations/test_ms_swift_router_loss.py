"""Models that add to their loss, through the real ms-swift: `sft` is its plain training, `dft` keeps the rest."""

import pytest

from tests.integrations import tiny
from tests.integrations.swift_runs import config, run_in_process, write_data
from tests.integrations.tiny_families import MOE_FAMILIES, make_model

pytestmark = [pytest.mark.swift, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SWIFT_TYPES = {"mixtral": "mixtral", "qwen2_moe": "qwen2_moe", "qwen3_moe": "qwen3_moe", "olmoe": "olmoe"}
ADALORA = {"tuner_type": "adalora", "target_modules": "all-linear"}


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    root = tmp_path_factory.mktemp("router")
    data = write_data(root / "data") / "toy.jsonl"

    def train(name, arm, **options):
        model = root / name
        if not model.exists():
            tiny.make_text_model(model) if name == "qwen2" else make_model(name, model)
        settings = {"model_type": name, "learning_rate": 1e-4, "max_steps": 2, **options}
        entries = run_in_process(config(model, data, root / f"{name}-{arm}", **settings))
        return [entry for entry in entries if "loss" in entry]

    return train


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert (a["loss"], a["grad_norm"]) == pytest.approx((b["loss"], b["grad_norm"]), rel=2e-5)


@pytest.mark.parametrize("options", [{}, {"gradient_accumulation_steps": 2, "gradient_checkpointing": False}])
@pytest.mark.parametrize("name", MOE_FAMILIES)
def test_sft_is_plain_training_and_dft_keeps_the_router_loss(name, options, trainer):
    options = {"router_aux_loss_coef": 0.1, **options}
    plain = trainer(name, "plain", **options)
    bare = trainer(name, "bare", **{**options, "router_aux_loss_coef": 0.0}, loss_type="dft")
    for fused in (True, False):
        found = trainer(name, "sft", loss_type="sft", loss_config={"fused": fused}, **options)
        assert_same(found, plain)
        dft = trainer(name, "dft", loss_type="dft", loss_config={"fused": fused}, **options)
        assert dft[0]["aux_loss"] == pytest.approx(found[0]["aux_loss"], rel=1e-5) and dft[0]["aux_loss"] > 0.05
        assert dft[0]["loss"] - dft[0]["aux_loss"] == pytest.approx(bare[0]["loss"], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("fused", [True, False])
def test_the_orthogonality_term_of_adalora_is_kept(fused, trainer):
    plain = trainer("qwen2", "plain", **ADALORA)
    found = trainer("qwen2", "sft", loss_type="sft", loss_config={"fused": fused}, **ADALORA)
    assert_same(found, plain)
    assert found[0]["aux_loss"] > 1
