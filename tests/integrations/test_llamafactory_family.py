"""The family of objectives through the real LLaMA-Factory: native twins, routes, sequences, references, anchors."""

import json

import pytest

from dft_plugin import OBJECTIVES
from dft_plugin.errors import ConflictError, InputError, OptionError
from dft_plugin.monitor.files import write_page
from tests.integrations import tiny, tiny_vl
from tests.integrations.llamafactory_runs import config, history, run_in_process

pytestmark = [
    pytest.mark.llamafactory,
    pytest.mark.slow,
    # The framework's own imports and calls warn about things we do not decide.
    pytest.mark.filterwarnings("ignore"),
]

LORA = {"finetuning_type": "lora", "lora_rank": 4, "lora_target": "all"}
VL = {
    "model": "vl",
    "dataset": "pictures",
    "template": "qwen2_vl",
    "cutoff_len": 512,
    "preprocessing_num_workers": None,
}
PACKED = {"packing": True, "neat_packing": True, "cutoff_len": 256}
FROZEN = {"learning_rate": 0.0}
WHOLE_EPOCH = {"max_steps": 1, "per_device_train_batch_size": 1, "learning_rate": 0.0}


def weights(i):
    """Columns of row `i`: a weight, what it lacks to one, and one that is none in row 5."""
    share = (i % 4) / 4
    return {"share": share, "rest": 1 - share, "bad": -1.0 if i == 5 else 1.0}


def write_datasets(data):
    """`facts` and `sums`, each half of the toy samples, with columns; `pictures` likewise, with images."""
    rows = [{**row, "kind": "odd" if i % 2 else "even", **weights(i)} for i, row in enumerate(tiny.samples(48))]
    info = json.loads((data / "dataset_info.json").read_text())
    for name, part in (("facts", rows[:24]), ("sums", rows[24:])):
        (data / f"{name}.json").write_text(json.dumps(part))
        info[name] = {"file_name": f"{name}.json", "columns": {"prompt": "question", "response": "answer"}}
    (data / "dataset_info.json").write_text(json.dumps(info))
    pictures = tiny_vl.write_vl_data(data)
    marked = [{**row, "kind": "odd" if i % 2 else "even"} for i, row in enumerate(pictures)]
    tiny_vl.register_vl_data(data, "pictures", marked)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("family")
    models = {"text": tiny.make_text_model(root / "text"), "vl": tiny_vl.make_vl_model(root / "vl")}
    data = tiny.write_llamafactory_data(root / "data")
    write_datasets(data)
    return models, data, root


@pytest.fixture(scope="module")
def train(inputs):
    models, data, root = inputs
    done = {}

    def run(loss_type=None, *, model="text", **options):
        settings = {name: options.pop(name) for name in list(options) if name in NAMES}
        overrides = {**({"loss_type": loss_type} if loss_type else {}), **settings}
        if options:
            overrides["loss_config"] = options
        key = json.dumps([model, overrides], sort_keys=True)
        if key not in done:
            done[key] = run_in_process(config(models[model], data, root / f"run{len(done)}", **overrides))
        return done[key]

    return run


NAMES = {
    *("finetuning_type", "lora_rank", "lora_target", "dataset", "template", "cutoff_len", "preprocessing_num_workers"),
    *("packing", "neat_packing", "learning_rate", "max_steps", "per_device_train_batch_size", "stage", "streaming"),
    *("gradient_accumulation_steps", "val_size", "eval_strategy", "eval_steps", "use_eaft_loss", "tokenized_path"),
    *("save_strategy", "save_steps", "resume_from_checkpoint", "output_dir", "eval_dataset", "eaft_alpha"),
    *("eval_on_each_dataset", "dataloader_num_workers", "do_eval"),
}


def losses(folder, key="loss"):
    return [entry[key] for entry in history(folder, key)]


@pytest.mark.parametrize("fused", [True, False])
def test_eaft_reproduces_the_native_one(train, fused):
    ours = train("eaft", entropy="top20", fused=fused)
    native = train(use_eaft_loss=True)
    for key in ("loss", "grad_norm"):
        assert losses(ours, key) == pytest.approx(losses(native, key), rel=1e-5)


NEEDS_REFERENCE = {"iw_sft", "prift"}


@pytest.mark.parametrize("name", sorted(set(OBJECTIVES) - NEEDS_REFERENCE))
def test_fused_and_logits_path_agree(train, name):
    settings = LORA if name == "asft" else {}
    fused, logits = train(name, fused=True, **settings), train(name, fused=False, **settings)
    for key in ("loss", "grad_norm", "nll", "objective"):
        # rounding of a product of hundreds of probabilities is larger
        assert losses(fused, key) == pytest.approx(losses(logits, key), rel=2e-5, abs=1e-12)


@pytest.mark.parametrize("settings", [{}, PACKED, VL], ids=["text", "neat_packing", "vision"])
@pytest.mark.parametrize("by", ["dataset", "column"])
def test_routes_send_each_sample_to_its_objective(train, settings, by):
    if by == "dataset":
        names, route = ("facts", "sums"), {"by": "dataset"}
        settings = {"dataset": "facts,sums", **settings}
        if "model" in settings:
            names, settings = ("pictures", "facts"), {**settings, "dataset": "pictures,facts"}
    else:
        names, route = ("odd", "even"), {"by": "column", "column": "kind"}
        settings = {"dataset": "facts,sums", **settings}

    def routed(first, second):
        rules = {names[0]: first, names[1]: second}
        return losses(train("dft", route={**route, "rules": rules}, **settings, **FROZEN))

    one, other = routed("sft", "dft"), routed("dft", "sft")
    sft, dft = losses(train("sft", **settings, **FROZEN)), losses(train("dft", **settings, **FROZEN))
    assert [a + b for a, b in zip(one, other, strict=True)] == pytest.approx(
        [a + b for a, b in zip(sft, dft, strict=True)], rel=1e-6
    )
    assert all(min(s, d) - 1e-9 <= x <= max(s, d) for x, s, d in zip(one, sft, dft, strict=True))
    assert any(abs(x - y) > 1e-3 for x, y in zip(one, other, strict=True)), "the rules made no difference"
    assert routed("dft", "dft") == dft


def test_a_default_rule_takes_the_rest(train):
    settings = {"dataset": "facts,sums", **FROZEN}
    named = train("dft", route={"by": "dataset", "rules": {"facts": "sft", "sums": "dft"}}, **settings)
    rest = train("dft", route={"by": "dataset", "rules": {"facts": "sft", "*": "dft"}}, **settings)
    assert losses(named) == losses(rest)


def test_routes_of_streamed_and_of_separately_evaluated_datasets(train):
    rules = {"facts": "sft", "sums": "dft"}
    settings = {"dataset": "facts,sums", **FROZEN}
    whole = train("dft", route={"by": "dataset", "rules": rules}, **settings)
    evaluated = {"eval_dataset": "facts,sums", "eval_on_each_dataset": True, "eval_strategy": "steps", "eval_steps": 1}
    each = train("dft", route={"by": "dataset", "rules": rules}, **settings, **evaluated)
    assert losses(each) == losses(whole)
    plain = train("sft", **settings, **evaluated)
    for name in rules:
        assert losses(each, f"eval_{name}_loss") == pytest.approx(losses(plain, f"eval_{name}_loss"), rel=1e-6)
        assert all(row > 0 for row in losses(each, f"eval_{name}_tokens/route_{name}"))
    assert losses(each, "eval_facts_objective") == pytest.approx(losses(each, "eval_facts_nll"), rel=1e-6), "sft"
    assert losses(each, "eval_sums_objective")[0] < losses(each, "eval_sums_nll")[0] / 5, "dft"
    # LLaMA-Factory makes as many shards of a stream as there are workers, and none of none
    streamed = {**settings, "streaming": True, "preprocessing_num_workers": None, "dataloader_num_workers": 1}
    one = train("dft", route={"by": "dataset", "rules": {**rules, "facts": "dft"}}, **streamed)
    assert losses(one) == pytest.approx(losses(train("dft", **streamed)), rel=1e-6)
    other = train("dft", route={"by": "dataset", "rules": {"facts": "sft", "sums": "sft", "*": "dft"}}, **streamed)
    assert losses(other) == pytest.approx(losses(train("sft", **streamed)), rel=1e-6)


@pytest.mark.parametrize("name", ["dft_sequence", "dft_geometric_mean"])
def test_packing_does_not_mix_sequences(train, name):
    unpacked = train(name, dataset="facts", gradient_accumulation_steps=24, cutoff_len=256, **WHOLE_EPOCH)
    packs = {**PACKED, **WHOLE_EPOCH, "gradient_accumulation_steps": 24}
    packed = train(name, dataset="facts", **packs)
    assert losses(packed) == pytest.approx(losses(unpacked), rel=1e-5)
    assert losses(packed, "nll") == pytest.approx(losses(unpacked, "nll"), rel=1e-6)


@pytest.mark.parametrize("settings", [{}, VL], ids=["text", "vision"])
def test_the_anchor_is_zero_at_first_and_the_same_for_any_micro_batches(train, settings):
    settings = {**LORA, **settings, "learning_rate": 1e-2}
    one = train("asft", kl_coef=0.5, per_device_train_batch_size=4, **settings)
    four = train("asft", kl_coef=0.5, per_device_train_batch_size=1, gradient_accumulation_steps=4, **settings)
    dft = train("dft", per_device_train_batch_size=4, **settings)
    assert losses(one)[0] == pytest.approx(losses(dft)[0], rel=1e-6), "KL = 0 at step 0"
    assert losses(one)[2] != pytest.approx(losses(dft)[2], rel=1e-5), "and not later"
    for key in ("loss", "grad_norm"):
        assert losses(four, key) == pytest.approx(losses(one, key), rel=5e-5)


def test_the_anchor_evaluates(train):
    settings = {**LORA, "val_size": 0.25, "eval_strategy": "steps", "eval_steps": 1, **FROZEN}
    found = train("asft", **settings)
    assert losses(found, "eval_loss") == pytest.approx(losses(train("sft", **settings), "eval_loss"), rel=1e-6)


def test_renormalised_weights_keep_the_size_of_the_loss(train):
    plain, renormalised = train("dft"), train("dft", renormalise="mean_one")
    assert losses(renormalised)[0] == losses(plain)[0], "the first step has no step before it"
    assert losses(renormalised)[1] > 5 * losses(plain)[1]
    split = train("dft", renormalise="mean_one", per_device_train_batch_size=1, gradient_accumulation_steps=4)
    assert losses(split) == pytest.approx(losses(renormalised), rel=1e-5)


@pytest.mark.parametrize("name", ["talr", "cadft"])
def test_a_statistic_of_the_step_before_is_the_same_for_any_micro_batches(train, name):
    whole, dft = train(name), train("dft_floor", floor_at=0.01) if name == "talr" else train("dft")
    assert losses(whole)[0] == pytest.approx(losses(dft)[0], rel=1e-6), "the first step has no step before it"
    assert losses(whole)[1] != pytest.approx(losses(dft)[1], rel=1e-3), "and the second has"
    split = train(name, per_device_train_batch_size=1, gradient_accumulation_steps=4)
    for key in ("loss", "grad_norm"):
        assert losses(split, key) == pytest.approx(losses(whole, key), rel=1e-5)
    saved = {"save_strategy": "steps", "save_steps": 2}
    again = train(name, resume_from_checkpoint=str(train(name, **saved) / "checkpoint-2"))
    assert losses(again)[-1] == pytest.approx(losses(whole)[-1], rel=1e-6)


def test_sample_weights_and_means_over_samples(train):
    frozen = {"dataset": "facts", "cutoff_len": 256, **FROZEN}
    plain, *parts = train("dft", **frozen), *(train("dft", sample_weight=name, **frozen) for name in ("share", "rest"))
    assert [a + b for a, b in zip(*map(losses, parts), strict=True)] == pytest.approx(losses(plain), rel=1e-5)
    assert losses(parts[0])[0] != pytest.approx(losses(parts[1])[0], rel=1e-2)
    # the loss of one sample is its mean over tokens
    each = losses(train("dft", **{**frozen, "per_device_train_batch_size": 1, "max_steps": 24}))
    mean = sum(each) / 24
    weighted = sum(weights(i)["share"] * loss for i, loss in enumerate(each)) / 24
    norms = []
    step = {**frozen, "max_steps": 1, "reduction": "sample_mean"}
    for spread in (
        {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 24},
        {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 3},
        {**PACKED, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 24},
    ):
        found = [train("dft", **{**step, **spread}, **options) for options in ({}, {"sample_weight": "share"})]
        assert [losses(folder)[0] for folder in found] == pytest.approx([mean, weighted], rel=1e-5)
        norms.append([losses(folder, "grad_norm")[0] for folder in found])
    assert norms[1] == pytest.approx(norms[0], rel=1e-5) and norms[2] == pytest.approx(norms[0], rel=1e-5)


def test_an_evaluation_after_the_training_is_on_the_page(train, monkeypatch):
    monkeypatch.setattr("dft_plugin.monitor.window_log.write_page", write_page)
    folder = train("dft", val_size=0.25, do_eval=True)
    rows = [json.loads(line) for line in (folder / "dft_monitor.jsonl").read_text().splitlines()]
    assert [row["mode"] for row in rows] == ["train"] * 3 + ["eval"]
    assert "<th>eval, step 3</th>" in (folder / "dft_monitor.html").read_text()


def test_an_evaluation_needs_no_weights(train):
    evaluated = {"dataset": "facts", "eval_dataset": "toy", "eval_strategy": "steps", "eval_steps": 1, **FROZEN}
    found = train("dft", sample_weight="share", reduction="sample_mean", **evaluated)
    assert losses(found, "eval_loss") == pytest.approx(losses(train("sft", **evaluated), "eval_loss"), rel=1e-6)


def test_tokens_with_full_weight(train):
    floor, full = train("dft", floor=0.3, **FROZEN), train("dft", full_weight_tokens=["eos"], **FROZEN)
    plain = train("dft", **FROZEN)
    assert all(a > b for a, b in zip(losses(floor), losses(plain), strict=True))
    assert all(a > b for a, b in zip(losses(full), losses(plain), strict=True))


@pytest.mark.parametrize(
    ("loss_type", "options", "error", "message"),
    [
        ("dft", {"route": {"by": "dataset", "rules": {"facts": "dft"}}}, OptionError, "no rule for 'sums'"),
        ("dft", {"route": {"by": "column", "column": "kind", "rules": {"odd": "dft"}}}, OptionError, "for 'even'"),
        ("dft", {"route": {"by": "channel", "rules": {"*": "dft"}}}, OptionError, "no column 'channel'"),
        ("dft", {"route": {"by": "dataset", "rules": {"*": "sft"}}}, ConflictError, "not named with sft"),
        ("dft", {"route": {"by": "dataset", "rules": {"facts": "sft"}}}, ConflictError, '"\\*": dft'),
        (
            "dft",
            {"route": {"by": "dataset", "rules": {"facts": "dft"}}, "dataset": "facts", "eval_dataset": "sums"},
            OptionError,
            "no rule for 'sums'",
        ),
        ("dft", {"route": {"by": "dataset", "rules": {"*": "dtf"}}}, Exception, "rule '\\*'"),
        ("dft", {"route": {"by": "dataset", "column": "x", "rules": {"*": "dft"}}}, OptionError, "by: column"),
        (
            "dft",
            {"route": {"by": "dataset", "rules": {"*": "dft"}}, "stage": "pt", "dataset": "toy_pt"},
            ConflictError,
            "stage=pt",
        ),
        ("dft_sequence", {"stage": "pt", "dataset": "toy_pt"}, ConflictError, "stage=pt"),
        ("power", {"alpha": 1.0, "route": {"by": "dataset", "rules": {"*": "power"}}}, ConflictError, "beside route"),
        ("dft", {"floor": 0.5, "cap": 0.1}, ConflictError, "above cap"),
        ("dft", {"full_weight_tokens": ["no single token at all"]}, OptionError, "tokens of this tokenizer"),
        ("dft", {"full_weight_tokens": [10**9]}, OptionError, "outside the vocabulary"),
        ("dft", {"sample_weight": "absent"}, OptionError, "no column 'absent'"),
        ("dft", {"sample_weight": "bad"}, InputError, "row 5 of dataset 'facts' has bad=-1"),
        ("dft", {"sample_weight": "kind"}, InputError, "row 0 of dataset 'facts' has kind='even'"),
        ("dft", {"sample_weight": "share", "streaming": True}, ConflictError, "cannot be checked"),
        ("dft", {"reduction": "sample_mean", "stage": "pt", "dataset": "toy_pt"}, ConflictError, "stage=pt"),
        ("prift", {"sample_weight": "share"}, ConflictError, "carry one of the two"),
        ("asft", {}, ConflictError, "Train with LoRA"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_settings_that_cannot_be_are_refused_before_training(train, loss_type, options, error, message):
    with pytest.raises(error, match=message):
        train(loss_type, **{"dataset": "facts,sums", **options})


def test_data_tokenized_for_another_loss_is_refused(train, tmp_path):
    saved = {"tokenized_path": str(tmp_path / "tokenized"), "dataset": "facts,sums"}
    train("dft", **saved)  # writes it
    with pytest.raises(InputError, match="tokenized for another loss_config"):
        train("dft_sequence", **saved)
