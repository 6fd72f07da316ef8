"""One global batch, however it is spread: one process, DDP, ZeRO-1, 2, 3 and FSDP2 give the same losses.

Sequences differ in length, and in the first step every label of the second rank is masked.
"""

import json
from pathlib import Path

import pytest

from tests.integrations import forked_ranks, tiny, tiny_families, tiny_vl
from tests.integrations.cpu_fsdp import SHARDED
from tests.integrations.llamafactory_runs import config, history, run_in_process

pytestmark = [pytest.mark.llamafactory, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

ROOT = Path(__file__).parents[2]
LORA = {"finetuning_type": "lora", "lora_rank": 4, "lora_target": "q_proj,v_proj"}
TEXT, VL = {"template": "qwen"}, {"template": "qwen2_vl", "dataset": "toy_vl", "cutoff_len": 512}
MASKED_ROW = 1
# A router loss, a weight for each sample and the mean over samples at once
ROUTED = {**TEXT, "moe_aux_loss_coef": 0.1, "loss_config": {"sample_weight": "share", "reduction": "sample_mean"}}
MODELS = {
    "text": ("text", TEXT),
    "text-lora": ("text", {**TEXT, **LORA}),
    "text-tied": ("tied", TEXT),
    "text-talr": ("text", {**TEXT, "loss_type": "talr"}),
    "text-cadft": ("text", {**TEXT, "loss_type": "cadft"}),
    "moe": ("moe", ROUTED),
    "vl": ("vl", {**VL, "freeze_vision_tower": False}),
    "vl-lora": ("vl", {**VL, **LORA}),
}
SPREADS = [
    *(("text", how) for how in ("ddp", "zero1", "zero2", "zero3", "fsdp2")),
    *(("text-lora", how) for how in ("zero3", "fsdp2")),
    *(("text-tied", how) for how in ("zero3", "fsdp2")),
    ("text-talr", "ddp"),
    ("text-cadft", "ddp"),
    *(("moe", how) for how in ("ddp", "zero3", "fsdp2")),
    ("vl", "zero2"),
    ("vl", "zero3"),
    ("vl-lora", "zero2"),
]


@pytest.fixture(scope="module")
def configure(tmp_path_factory):
    """(model, how) -> its training configuration, on data tokenised once with one row's labels masked."""
    root = tmp_path_factory.mktemp("spread")
    data = tiny.write_llamafactory_data(root / "data", 12)
    rows = json.loads((data / "toy.json").read_text())
    rows = [{**row, "share": 0.25 + index % 4 / 4} for index, row in enumerate(rows)]
    (data / "toy.json").write_text(json.dumps(rows))
    tiny_vl.write_vl_data(data, 12)
    models = {
        "text": tiny.make_text_model(root / "text"),
        "tied": tiny.make_text_model(root / "tied", tie_word_embeddings=True),
        "moe": tiny_families.make_model("qwen3_moe", root / "moe"),
        "vl": tiny_vl.make_vl_model(root / "vl"),
    }
    base = {"preprocessing_num_workers": None, "learning_rate": 1e-4, "loss_type": "dft"}

    def tokenize(model, options):
        """Path of the tokenised data: one for each template and for each kind of what the labels carry."""
        from datasets import load_from_disk

        kind = "-".join((options["template"], options["loss_type"], *options.get("loss_config", ())))
        masked = root / f"masked-{kind}"
        if not masked.exists():
            plain = root / f"tokenized-{kind}"
            settings = {**options, "tokenized_path": str(plain), "max_steps": 1}
            run_in_process(config(models[model], data, root / "tokenize", **settings))
            rows = load_from_disk(str(plain))
            rows["train"] = rows["train"].map(
                lambda row, index: {"labels": [-100] * len(row["labels"]) if index == MASKED_ROW else row["labels"]},
                with_indices=True,
            )
            rows.save_to_disk(str(masked))
        return str(masked)

    def make(name, how):
        model, options = MODELS[name][0], {**base, **MODELS[name][1]}
        options["loss_config"] = {**options.get("loss_config", {}), "fused": True}
        settings = config(models[model], data, root / f"{name}-{how}", **options)
        settings.update(tokenized_path=tokenize(model, options), per_device_train_batch_size=1)
        if how == "one-process":  # a router loss is one of its micro-batch
            settings["gradient_accumulation_steps" if model == "moe" else "per_device_train_batch_size"] = 2
        if how.startswith("zero"):
            del settings["use_cpu"]  # with it, DeepSpeed's batch arithmetic forgets the second rank
            settings["deepspeed"] = str(ROOT / "yaml_examples" / "deepspeed" / f"{how}.json")
        elif how == "fsdp2":
            settings.update(
                fsdp="full_shard auto_wrap", fsdp_config=str(ROOT / "yaml_examples" / "fsdp" / "fsdp2.json")
            )
        return settings

    return make


@pytest.fixture(scope="module")
def spread_runs(configure, tmp_path_factory):
    """Every two-rank run, from one warm process."""
    jobs = {f"{name}-{how}": configure(name, how) for name, how in SPREADS}
    return forked_ranks.run_all(jobs, tmp_path_factory.mktemp("jobs") / "jobs.json")


@pytest.fixture(scope="module")
def expected(configure):
    done = {}

    def run(name):
        if name not in done:
            done[name] = history(run_in_process(configure(name, "one-process")))
        return done[name]

    return run


def assert_same(found, truth):
    assert len(found) == len(truth) == 3
    for step, (a, b) in enumerate(zip(found, truth, strict=True)):
        assert a.keys() == b.keys()
        for key in {"loss", "grad_norm", "nll", "one_minus_p", "aux_loss"} & a.keys():
            assert a[key] == pytest.approx(b[key], rel=1e-5), f"{key} at step {step + 1}"


@pytest.mark.parametrize(("name", "how"), SPREADS)
def test_two_ranks_give_the_losses_of_one_process(spread_runs, expected, name, how):
    code, folder = spread_runs[f"{name}-{how}"]
    logs = [log.read_text() for log in sorted(folder.glob("rank*.log"))]
    assert code == 0, "\n".join(log[-3000:] for log in logs)
    assert [SHARDED in log and f"\n0 {SHARDED}" not in log for log in logs] == [how == "fsdp2"] * 2
    assert json.loads((folder / "dft_run.json").read_text())["path"] == "fused"
    assert_same(history(folder), expected(name))
