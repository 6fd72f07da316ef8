"""Models that scale or cap their logits, through the real ms-swift: fused, and equal to its own losses."""

import json

import pytest

from tests.integrations.swift_runs import config, run_in_process, write_data
from tests.integrations.tiny_families import FAMILIES, make_model

pytestmark = [pytest.mark.swift, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("name", ["gemma2", "recurrent_gemma", "falcon_h1"])
def test_fused_losses_equal_the_native_ones(name, tmp_path):
    data = write_data(tmp_path / "data") / "toy.jsonl"
    model = make_model(name, tmp_path / "model")

    def train(arm, **options):
        settings = config(model, data, tmp_path / arm, learning_rate=1e-4, max_steps=2, **options)
        return [entry for entry in run_in_process(settings) if "loss" in entry]

    for ours, native in (("dft", {"enable_dft_loss": True}), ("sft", {})):
        found = train(ours, loss_type=ours, loss_config={"fused": True})
        record = json.loads((tmp_path / ours / "dft_run.json").read_text())
        assert (record["path"], record["logit_transform"]) == ("fused", FAMILIES[name][2])
        for a, b in zip(found, train(f"native-{ours}", **native), strict=True):
            assert (a["loss"], a["grad_norm"]) == pytest.approx((b["loss"], b["grad_norm"]), rel=2e-5)
