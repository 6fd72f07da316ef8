"""The family of objectives through the real ms-swift: routes, sequences, references, anchors."""

import json
from pathlib import Path

import pytest

from dft_plugin import OBJECTIVES
from dft_plugin.errors import ConflictError, InputError, OptionError
from tests.integrations import tiny, tiny_vl
from tests.integrations.swift_runs import config, run_in_process, write_data

pytestmark = [
    pytest.mark.swift,
    pytest.mark.slow,
    # The framework's own imports and calls warn about things we do not decide.
    pytest.mark.filterwarnings("ignore"),
]

LORA = {"tuner_type": "lora", "lora_rank": 4, "target_modules": "all-linear", "lora_dropout": 0.0}
VL = {
    **{"model": "vl", "dataset": ["pictures"], "model_type": "qwen2_5_vl", "template": "tiny_vl", "max_length": 512},
    "external_plugins": str(Path(__file__).with_name("swift_tiny_vl.py")),
}
FROZEN = {"learning_rate": 0.0}
WHOLE_EPOCH = {"max_steps": 1, "per_device_train_batch_size": 1, "learning_rate": 0.0}
NEEDS_REFERENCE = {"iw_sft", "prift"}


def weights(i):
    """Columns of row `i`: a weight, what it lacks to one, and one that is none in row 5."""
    share = (i % 4) / 4
    return {"share": share, "rest": 1 - share, "bad": -1.0 if i == 5 else 1.0}


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("family")
    models = {"text": tiny.make_text_model(root / "text"), "vl": tiny_vl.make_vl_model(root / "vl")}
    data = write_data(root / "data")
    rows = [json.loads(line) for line in (data / "toy.jsonl").read_text().splitlines()]
    rows = [{**row, "kind": "odd" if i % 2 else "even", **weights(i)} for i, row in enumerate(rows)]
    write_rows(data / "facts.jsonl", rows[:24])
    write_rows(data / "sums.jsonl", rows[24:])
    pictures = tiny_vl.write_vl_data(root / "vl_data")
    write_rows(data / "pictures.jsonl", [{**row, "kind": "odd" if i % 2 else "even"} for i, row in enumerate(pictures)])
    return models, data, root


@pytest.fixture(scope="module")
def train(inputs):
    models, data, root = inputs
    done = {}

    def run(loss_type, *, model="text", dataset=("facts", "sums"), settings=None, **options):
        settings = dict(settings or {})
        model, dataset = settings.pop("model", model), settings.pop("dataset", dataset)
        key = json.dumps([model, dataset, loss_type, settings, options], sort_keys=True)
        if key not in done:
            files = [str(data / f"{name}.jsonl") for name in dataset]
            settings = config(models[model], files[0], root / f"run{len(done)}", **settings)
            settings |= {"dataset": files, "loss_type": loss_type, **({"loss_config": options} if options else {})}
            done[key] = run_in_process(settings)
        return done[key]

    return run


@pytest.fixture
def packing(monkeypatch):
    """swift insists on flash attention, which this machine has not; eager attention reads the same position ids."""
    from swift.arguments import SftArguments

    monkeypatch.setattr(SftArguments, "_check_padding_free", lambda args: setattr(args, "padding_free", True))
    return {"packing": True, "packing_length": 256}


def losses(entries, key="loss"):
    return [entry[key] for entry in entries if key in entry]


@pytest.mark.parametrize("name", sorted(set(OBJECTIVES) - NEEDS_REFERENCE))
def test_fused_and_logits_path_agree(train, name):
    settings = LORA if name == "asft" else {}
    fused, logits = (train(name, settings=settings, fused=value) for value in (True, False))
    for key in ("loss", "grad_norm", "nll", "objective"):
        assert losses(fused, key) == pytest.approx(losses(logits, key), rel=2e-5, abs=1e-12)


def assert_routes(train, route, names, settings):
    def routed(first, second):
        rules = {names[0]: first, names[1]: second}
        return losses(train("dft", settings=settings, route={**route, "rules": rules}))

    one, other = routed("sft", "dft"), routed("dft", "sft")
    sft, dft = losses(train("sft", settings=settings)), losses(train("dft", settings=settings))
    assert [a + b for a, b in zip(one, other, strict=True)] == pytest.approx(
        [a + b for a, b in zip(sft, dft, strict=True)], rel=1e-6
    )
    assert any(abs(x - y) > 1e-3 for x, y in zip(one, other, strict=True)), "the rules made no difference"
    assert routed("dft", "dft") == dft


@pytest.mark.parametrize("settings", [{}, VL], ids=["text", "vision"])
@pytest.mark.parametrize("by", ["dataset", "column"])
def test_routes_send_each_sample_to_its_objective(train, settings, by):
    if by == "column":
        names, route = ("odd", "even"), {"by": "column", "column": "kind"}
    else:
        names, route = ("pictures" if settings else "facts", "sums"), {"by": "dataset"}
        settings = {**settings, "dataset": [names[0], "sums"]}
    # rows of both datasets in each step
    assert_routes(train, route, names, {**settings, **FROZEN, "max_steps": 2, "per_device_train_batch_size": 24})


def test_routes_by_channel_with_loss_scale(train):
    settings = {"dataset": ["toy"], "loss_scale": "last_round", **FROZEN}
    assert_routes(train, {"by": "channel"}, ("c0", "c1"), settings)


def test_routes_of_streamed_and_of_evaluated_datasets(train, inputs):
    rules = {"facts": "sft", "sums": "dft"}
    evaluated = {"val_dataset": [str(inputs[1] / "sums.jsonl")], "eval_strategy": "steps", "eval_steps": 1}
    found = train("dft", settings={**FROZEN, **evaluated}, route={"by": "dataset", "rules": rules})
    plain = train("sft", settings={**FROZEN, **evaluated})
    assert losses(found, "eval_loss") == pytest.approx(losses(plain, "eval_loss"), rel=1e-6)
    assert losses(found, "eval_objective")[0] < losses(found, "eval_nll")[0] / 5, "dft"
    assert losses(found) == losses(train("dft", settings=FROZEN, route={"by": "dataset", "rules": rules}))
    streamed = {**FROZEN, "streaming": True}
    routed = train("dft", settings=streamed, route={"by": "dataset", "rules": {**rules, "facts": "dft"}})
    assert losses(routed) == pytest.approx(losses(train("dft", settings=streamed)), rel=1e-6)
    with pytest.raises(OptionError, match="no rule for '.*sums.jsonl'"):
        options = {"route": {"by": "dataset", "rules": {"facts": "dft"}}}
        train("dft", settings={"dataset": ["facts"], **evaluated}, **options)


def test_routes_of_packed_rows(train, packing):
    assert_routes(train, {"by": "column", "column": "kind"}, ("odd", "even"), {**FROZEN, **packing})


@pytest.mark.parametrize("name", ["dft_sequence", "dft_geometric_mean"])
def test_packing_does_not_mix_sequences(train, packing, name):
    settings = {"dataset": ["facts"], "gradient_accumulation_steps": 24, **WHOLE_EPOCH}
    unpacked, packed = train(name, settings=settings), train(name, settings={**settings, **packing})
    assert losses(packed) == pytest.approx(losses(unpacked), rel=1e-5)
    assert losses(packed, "nll") == pytest.approx(losses(unpacked, "nll"), rel=1e-6)


@pytest.mark.parametrize("settings", [{}, VL], ids=["text", "vision"])
def test_the_anchor_is_zero_at_first_and_the_same_for_any_micro_batches(train, settings):
    settings = {**LORA, **settings, "learning_rate": 1e-2}

    def run(name, batch, **options):
        batches = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": 4 // batch}
        return train(name, settings={**settings, **batches}, **options)

    one, four, dft = run("asft", 4, kl_coef=0.5), run("asft", 1, kl_coef=0.5), run("dft", 4)
    assert losses(one)[0] == pytest.approx(losses(dft)[0], rel=1e-6), "KL = 0 at step 0"
    assert losses(one)[2] != pytest.approx(losses(dft)[2], rel=1e-5), "and not later"
    for key in ("loss", "grad_norm"):
        assert losses(four, key) == pytest.approx(losses(one, key), rel=5e-5)


def test_the_anchor_evaluates(train):
    settings = {**LORA, "split_dataset_ratio": 0.25, "eval_strategy": "steps", "eval_steps": 1, **FROZEN}
    found, plain = train("asft", settings=settings), train("sft", settings=settings)
    assert losses(found, "eval_loss") == pytest.approx(losses(plain, "eval_loss"), rel=1e-6)


def test_renormalised_weights_keep_the_size_of_the_loss(train):
    plain, renormalised = train("dft"), train("dft", renormalise="mean_one")
    assert losses(renormalised)[0] == losses(plain)[0], "the first step has no step before it"
    assert losses(renormalised)[1] > 5 * losses(plain)[1]


@pytest.mark.parametrize("name", ["talr", "cadft"])
def test_a_statistic_of_the_step_before_is_the_same_for_any_micro_batches(train, name):
    whole, dft = train(name), train("dft_floor", floor_at=0.01) if name == "talr" else train("dft")
    assert losses(whole)[0] == pytest.approx(losses(dft)[0], rel=1e-6), "the first step has no step before it"
    assert losses(whole)[1] != pytest.approx(losses(dft)[1], rel=1e-3), "and the second has"
    split = train(name, settings={"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4})
    for key in ("loss", "grad_norm"):
        assert losses(split, key) == pytest.approx(losses(whole, key), rel=1e-5)


def test_sample_weights_and_means_over_samples(train, packing):
    frozen = {"dataset": ["facts"], **FROZEN}
    plain, *parts = (
        train("dft", settings=frozen, **options)
        for options in ({}, {"sample_weight": "share"}, {"sample_weight": "rest"})
    )
    assert [a + b for a, b in zip(*map(losses, parts), strict=True)] == pytest.approx(losses(plain), rel=1e-5)
    assert losses(parts[0])[0] != pytest.approx(losses(parts[1])[0], rel=1e-2)
    # the loss of one sample is its mean over tokens
    each = losses(train("dft", settings={**frozen, "per_device_train_batch_size": 1, "max_steps": 24}))
    mean = sum(each) / 24
    weighted = sum(weights(i)["share"] * loss for i, loss in enumerate(each)) / 24
    norms = []
    for spread in (
        {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 24},
        {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 3},
        {**packing, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 24},
    ):
        settings = {**frozen, "max_steps": 1, **spread}
        found = [
            train("dft", settings=settings, reduction="sample_mean", **options)
            for options in ({}, {"sample_weight": "share"})
        ]
        assert [losses(entries)[0] for entries in found] == pytest.approx([mean, weighted], rel=1e-5)
        norms.append([losses(entries, "grad_norm")[0] for entries in found])
    assert norms[1] == pytest.approx(norms[0], rel=1e-5) and norms[2] == pytest.approx(norms[0], rel=1e-5)


def test_an_evaluation_needs_no_weights(train, inputs):
    evaluated = {"val_dataset": [str(inputs[1] / "toy.jsonl")], "eval_strategy": "steps", "eval_steps": 1}
    settings = {"dataset": ["facts"], **FROZEN, **evaluated}
    found = train("dft", settings=settings, sample_weight="share", reduction="sample_mean")
    assert losses(found, "eval_loss") == pytest.approx(losses(train("sft", settings=settings), "eval_loss"), rel=1e-6)


@pytest.mark.parametrize(
    ("loss_type", "options", "settings", "error", "message"),
    [
        ("dft", {"route": {"by": "dataset", "rules": {"facts": "dft"}}}, {}, OptionError, "no rule for '.*sums.jsonl'"),
        ("dft", {"route": {"by": "column", "column": "kind", "rules": {"odd": "dft"}}}, {}, OptionError, "for 'even'"),
        ("dft", {"route": {"by": "column", "column": "x", "rules": {"*": "dft"}}}, {}, OptionError, "no column 'x'"),
        ("dft", {"sample_weight": "absent"}, {}, OptionError, "no column 'absent'"),
        ("dft", {"sample_weight": "bad"}, {}, InputError, "row 5 of the training data has bad=-1"),
        ("dft", {"reduction": "sample_mean"}, {"sequence_parallel_size": 2}, ConflictError, "needs whole"),
        ("asft", {}, {}, ConflictError, "Train with LoRA"),
        ("asft", {}, {**LORA, "sequence_parallel_size": 2}, ConflictError, "needs whole"),
        ("dft_sequence", {}, {"sequence_parallel_size": 2}, ConflictError, "needs whole"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_training(train, loss_type, options, settings, error, message):
    with pytest.raises(error, match=message):
        train(loss_type, settings=settings, **options)
