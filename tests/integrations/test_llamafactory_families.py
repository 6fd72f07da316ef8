"""Models that scale or cap their logits, through the real LLaMA-Factory: fused, and equal to its own losses."""

import json

import pytest

from tests.integrations import tiny
from tests.integrations.llamafactory_runs import config, history, run_in_process
from tests.integrations.tiny_families import FAMILIES, make_model

pytestmark = [pytest.mark.llamafactory, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("name", FAMILIES)
def test_fused_losses_equal_the_native_ones(name, tmp_path):
    data = tiny.write_llamafactory_data(tmp_path / "data")
    model = make_model(name, tmp_path / "model")

    def train(arm, **options):
        settings = config(model, data, tmp_path / arm, learning_rate=1e-4, max_steps=2, **options)
        return history(run_in_process(settings))

    for ours, native in (("dft", {"use_dft_loss": True}), ("sft", {})):
        found = train(ours, loss_type=ours, loss_config={"fused": True})
        record = json.loads((tmp_path / ours / "dft_run.json").read_text())
        assert (record["path"], record["logit_transform"]) == ("fused", FAMILIES[name][2])
        for a, b in zip(found, train(f"native-{ours}", **native), strict=True):
            assert (a["loss"], a["grad_norm"]) == pytest.approx((b["loss"], b["grad_norm"]), rel=2e-5)
