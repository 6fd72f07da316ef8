"""One global batch, however ms-swift spreads it: one process, DDP, ZeRO-1, 2, 3 and FSDP2 give the same losses.

Sequences differ in length, and in the first step every label of the second rank is masked.
"""

import json
from pathlib import Path

import pytest

from tests.integrations import forked_ranks, tiny, tiny_families, tiny_vl
from tests.integrations.cpu_fsdp import SHARDED
from tests.integrations.swift_runs import ROOT, config, logged, run_in_process, write_data

pytestmark = [pytest.mark.swift, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

LORA = {"tuner_type": "lora", "lora_rank": 4, "target_modules": "all-linear"}
VL = {
    **{"model_type": "qwen2_5_vl", "template": "tiny_vl", "max_length": 1024, "dataset": "masked_vl"},
    "external_plugins": str(Path(__file__).with_name("swift_tiny_vl.py")),
}
# A router loss, a weight for each sample and the mean over samples at once
ROUTED = {
    **{"model_type": "qwen3_moe", "router_aux_loss_coef": 0.1},
    "loss_config": {"sample_weight": "share", "reduction": "sample_mean"},
    "gradient_checkpointing": False,  # reentrant it cuts the router loss off, which swift is by the kind of run
}
MASKED_ROW = 1
MODELS = {
    "text": ("text", {}),
    "text-lora": ("text", LORA),
    "text-tied": ("tied", {}),
    "moe": ("moe", ROUTED),
    "vl": ("vl", {**VL, "freeze_vit": False, "freeze_aligner": False}),
}
SPREADS = [
    *(("text", how) for how in ("ddp", "zero1", "zero2", "zero3", "fsdp2")),
    *(("text-tied", how) for how in ("zero3", "fsdp2")),
    *(("moe", how) for how in ("ddp", "zero3", "fsdp2")),
    ("vl", "zero3"),
]
# Two ranks draw other adapter weights than one process does: LoRA is compared with the native switch on two ranks.
LORA_SPREADS = ["ddp", "zero3", "fsdp2"]


@pytest.fixture(scope="module")
def configure(tmp_path_factory):
    """(model, how) -> its training configuration, on data with one row's labels masked."""
    root = tmp_path_factory.mktemp("spread")
    data = write_data(root / "data", 12)
    weighted = [json.loads(line) for line in (data / "masked.jsonl").read_text().splitlines()]
    weighted = [{**row, "share": 0.25 + index % 4 / 4} for index, row in enumerate(weighted)]
    (data / "masked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in weighted))
    rows = tiny_vl.write_vl_data(root / "vl_data", 12)
    rows[MASKED_ROW]["messages"][-1]["loss"] = False
    (data / "masked_vl.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    models = {
        "text": tiny.make_text_model(root / "text"),
        "tied": tiny.make_text_model(root / "tied", tie_word_embeddings=True),
        "moe": tiny_families.make_model("qwen3_moe", root / "moe"),
        "vl": tiny_vl.make_vl_model(root / "vl"),
    }

    def make(name, how, *, native=False):
        model, options = MODELS[name]
        options = {"dataset": "masked", "learning_rate": 1e-4, **options}
        dataset = data / f"{options.pop('dataset')}.jsonl"
        loss_config = {**options.pop("loss_config", {}), "fused": True}
        loss = {"enable_dft_loss": True} if native else {"loss_type": "dft", "loss_config": loss_config}
        folder = root / f"{name}-{how}{'-native' if native else ''}"
        settings = config(models[model], dataset, folder, **options, **loss)
        settings["per_device_train_batch_size"] = 1
        if how == "one-process":  # a router loss is one of its micro-batch
            settings["gradient_accumulation_steps" if model == "moe" else "per_device_train_batch_size"] = 2
        if how.startswith("zero"):
            settings["deepspeed"] = str(ROOT / "yaml_examples" / "deepspeed" / f"{how}.json")
        elif how == "fsdp2":
            settings["fsdp"] = "fsdp2"  # swift's own preset
        return settings

    return make


@pytest.fixture(scope="module")
def spread_runs(configure, tmp_path_factory):
    """Every two-rank run, from one warm process."""
    jobs = {f"{name}-{how}": configure(name, how) for name, how in SPREADS}
    for how in LORA_SPREADS:
        jobs[f"text-lora-{how}"] = configure("text-lora", how)
        jobs[f"text-lora-{how}-native"] = configure("text-lora", how, native=True)
    return forked_ranks.run_all(jobs, tmp_path_factory.mktemp("jobs") / "jobs.json")


@pytest.fixture(scope="module")
def expected(configure):
    done = {}

    def run(name):
        if name not in done:
            done[name] = [x for x in run_in_process(configure(name, "one-process")) if "loss" in x]
        return done[name]

    return run


@pytest.mark.parametrize(("name", "how"), SPREADS)
def test_two_ranks_give_the_losses_of_one_process(spread_runs, expected, name, how):
    code, folder = spread_runs[f"{name}-{how}"]
    logs = [log.read_text() for log in sorted(folder.glob("rank*.log"))]
    assert code == 0, "\n".join(log[-3000:] for log in logs)
    assert [SHARDED in log and f"\n0 {SHARDED}" not in log for log in logs] == [how == "fsdp2"] * 2
    assert json.loads((folder / "dft_run.json").read_text())["path"] == "fused"
    found, truth = logged(folder), expected(name)
    assert len(found) == len(truth) == 3
    for step, (a, b) in enumerate(zip(found, truth, strict=True)):
        assert ("aux_loss" in a) == ("aux_loss" in b) == (name == "moe")
        for key in {"loss", "grad_norm", "nll", "one_minus_p", "effective_tokens", "token_acc", "aux_loss"} & a.keys():
            # swift writes eight decimals
            assert a[key] == pytest.approx(b[key], rel=1e-5, abs=2e-8), f"{key} at step {step + 1}"


@pytest.mark.parametrize("how", LORA_SPREADS)
def test_lora_on_two_ranks_equals_the_native_switch(spread_runs, how):
    (code, ours), (native_code, native) = spread_runs[f"text-lora-{how}"], spread_runs[f"text-lora-{how}-native"]
    assert code == native_code == 0
    assert json.loads((ours / "dft_run.json").read_text())["path"] == "fused"
    for step, (a, b) in enumerate(zip(logged(ours), logged(native), strict=True)):
        for key in ("loss", "grad_norm"):
            assert a[key] == pytest.approx(b[key], rel=1e-5, abs=2e-8), f"{key} at step {step + 1}"
