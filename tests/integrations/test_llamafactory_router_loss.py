"""Models with a router loss, through the real LLaMA-Factory: `sft` is its plain training, `dft` keeps the rest."""

import pytest

from tests.integrations import tiny
from tests.integrations.llamafactory_runs import config, history, run_in_process
from tests.integrations.tiny_families import MOE_FAMILIES, make_model

pytestmark = [pytest.mark.llamafactory, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("router")


@pytest.mark.parametrize("options", [{}, {"gradient_accumulation_steps": 2, "disable_gradient_checkpointing": True}])
@pytest.mark.parametrize("name", MOE_FAMILIES)
def test_sft_is_plain_training_and_dft_keeps_the_router_loss(name, options, root):
    data = tiny.write_llamafactory_data(root / "data")
    folder = root / name
    model = folder if folder.exists() else make_model(name, folder)

    def train(arm, **more):
        settings = {"moe_aux_loss_coef": 0.1, "learning_rate": 1e-4, "max_steps": 2, **options, **more}
        return history(run_in_process(config(model, data, root / f"{name}-{arm}-{len(options)}", **settings)))

    plain, bare = train("plain"), train("bare", moe_aux_loss_coef=None, loss_type="dft")
    for fused in (True, False):
        found = train(f"sft-{fused}", loss_type="sft", loss_config={"fused": fused})
        for a, b in zip(found, plain, strict=True):
            assert (a["loss"], a["grad_norm"]) == pytest.approx((b["loss"], b["grad_norm"]), rel=2e-5)
            assert a["aux_loss"] > 0.05
        dft = train(f"dft-{fused}", loss_type="dft", loss_config={"fused": fused})
        # before the first update the router loss is that of plain training, and the objective that of a bare run
        assert dft[0]["aux_loss"] == pytest.approx(found[0]["aux_loss"], rel=1e-5)
        assert dft[0]["loss"] - dft[0]["aux_loss"] == pytest.approx(bare[0]["loss"], rel=1e-4, abs=1e-5)
