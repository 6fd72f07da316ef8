"""`dft reference` and its column through the real ms-swift: equal to two models, cut, packed, with images, refused."""

import json
import logging
import re
from pathlib import Path

import pytest

from dft_eval.run.shards import Shard
from dft_plugin.errors import ConfigError, ConflictError, InputError, OptionError
from tests.integrations import reference_runs, tiny, tiny_vl, two_models
from tests.integrations.swift_runs import config, run_in_process, write_data

pytestmark = [
    pytest.mark.swift,
    pytest.mark.slow,
    # The framework's own imports and calls warn about things we do not decide.
    pytest.mark.filterwarnings("ignore"),
]

VL = {
    **{"model_type": "qwen2_5_vl", "template": "tiny_vl"},
    "external_plugins": str(Path(__file__).with_name("swift_tiny_vl.py")),
}
# max_length cuts some of the rows, at either side
SETTINGS = {
    "text": {"max_length": 90},
    "left": {"max_length": 90, "truncation_strategy": "left"},
    "packed": {"max_length": 90, "packing": True, "packing_length": 200},
    "vision": {**VL, "max_length": 90},
}
# one optimiser step over every row
STEP = {"max_steps": 1, "learning_rate": 0.0, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 36}


class Inputs:
    def __init__(self, root):
        self.root = root
        makers = {"text": tiny.make_text_model, "vision": tiny_vl.make_vl_model}
        self.models = {name: make(root / name) for name, make in makers.items()}
        self.references = {name: make(root / f"{name}-reference", seed=1) for name, make in makers.items()}
        self.data = write_data(root / "data", count=24)
        pictures = tiny_vl.write_vl_data(root / "pictures", count=12)
        (self.data / "pictures.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pictures))

    def kind(self, name):
        return "vision" if name == "vision" else "text"

    def config(self, name, **overrides):
        dataset = [str(self.data / "toy.jsonl")]
        if self.kind(name) == "vision":
            dataset.insert(0, str(self.data / "pictures.jsonl"))
        plain = config(self.models[self.kind(name)], self.data, self.root / f"run-{name}")
        return {**plain, "dataset": dataset, **SETTINGS[name], **overrides}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return Inputs(tmp_path_factory.mktemp("reference"))


@pytest.fixture(scope="module")
def made(inputs):
    return reference_runs.make_all(inputs, SETTINGS)


@pytest.fixture
def packing(monkeypatch):
    """swift insists on flash attention, which this machine has not; eager attention reads the same position ids."""
    from swift.arguments import SftArguments

    monkeypatch.setattr(SftArguments, "_check_padding_free", lambda args: setattr(args, "padding_free", args.packing))


def assert_refused(settings, folder, message):
    """swift encodes in a child, whose exception does not come through; what it logs does."""
    from swift.utils import get_logger

    from dft_plugin.integrations.ms_swift.data import UntaggableSampleError

    handler = logging.FileHandler(folder / "swift.log")
    get_logger().addHandler(handler)
    try:
        with pytest.raises((InputError, UntaggableSampleError, RuntimeError)) as found:
            run_in_process(settings)
    finally:
        get_logger().removeHandler(handler)
        handler.close()
    assert re.search(message, str(found.value) + (folder / "swift.log").read_text())


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [str(path)]


@pytest.mark.parametrize("name", SETTINGS)
def test_losses_are_those_of_two_models_in_float64(inputs, made, packing, tmp_path, name):
    from dft_plugin.integrations.ms_swift.rows import SwiftRows

    kind = inputs.kind(name)
    expected = {}
    for model in (inputs.models[kind], inputs.references[kind]):
        # swift prepares inputs for one model at a time
        rows = SwiftRows(inputs.config(name), tmp_path)
        rows.use_model(found := two_models.load(model, is_image_model=kind == "vision"))
        encoded = [rows.encode(index, row) for index, file in enumerate(rows.files) for row in range(file.num_rows)]
        expected[model] = found, [rows.batch(row) for row in encoded]
    lengths, limit = [len(row.input_ids) for row in encoded], SETTINGS[name]["max_length"]
    assert limit in lengths and min(lengths) < limit, "some rows are cut, and some are not"
    (policy, batches), (reference, _) = expected.values()
    losses = two_models.losses(policy, reference, batches)
    for objective, options in two_models.OBJECTIVES.items():
        changes = {**made[name]["changes"], "loss_type": objective, **STEP}
        if options:
            changes["loss_config"] = options
        step = run_in_process(inputs.config(name, **changes))[0]
        assert step["loss"] == pytest.approx(losses[objective], rel=2e-5), objective
    assert len({round(loss, 3) for loss in losses.values()}) == 3, "the objectives differ"


def test_shares_merge_to_the_same_bytes_and_every_column_stays(inputs, made):
    settings, out = inputs.config("text"), inputs.root / "shares"
    reference_runs.make(inputs.references["text"], settings, out, Shard(1, 3))
    reference_runs.make(inputs.references["text"], settings, out, Shard(2, 3))
    again = reference_runs.make(inputs.references["text"], settings, out)  # the first share, and the end
    assert again["files"]["toy"]["sha256"] == made["text"]["files"]["toy"]["sha256"]
    after = reference_runs.rows_of(out / "toy.jsonl")
    before = reference_runs.rows_of(inputs.data / "toy.jsonl")
    assert [{key: value for key, value in row.items() if key != "ref_logps"} for row in after] == before


def test_rows_that_swift_drops_are_listed_and_never_trained(inputs, tmp_path):
    settings = inputs.config("text", truncation_strategy="delete", max_length=90)
    rows = reference_runs.rows_of(inputs.data / "toy.jsonl")
    rows[5]["messages"][1]["role"] = "nobody"
    settings["dataset"] = write(tmp_path / "some.jsonl", rows)
    result = reference_runs.make(inputs.references["text"], settings, tmp_path / "out")
    reasons = {row["row"]: row["reason"] for row in result["files"]["some"]["skipped"]}
    assert "preprocessor" in reasons.pop(5) and reasons, "and some are too long"
    assert all("MaxLengthError" in reason for reason in reasons.values())
    run_in_process({**settings, **result["changes"], "loss_type": "prift", **STEP})
    longer = {**settings, **result["changes"], "max_length": 256, "loss_type": "prift", **STEP}
    assert_refused(longer, tmp_path, "was dropped when the reference was made")


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ("nothing", {"max_length": 40}, "max_length=90.* the run has .*max_length=40"),
        ("nothing", {"truncation_strategy": "left"}, "strategy=right.* the run has .*strategy=left"),
        ("nothing", {"template": "llama3"}, "template=qwen.* the run has .*llama3"),
        ("nothing", {"loss_scale": "all"}, "the run has .*loss_scale=all"),
        ("prompt", {}, "the row itself was changed"),
        ("order", {}, "the column of another row"),
        ("model", {}, "of 2 models"),
        ("tokenizer", {}, "the run uses"),
        ("absent", {}, "holds None; the objective needs"),
    ],
)
def test_a_reference_of_other_tokens_is_refused(inputs, made, tmp_path, change, settings, message):
    rows = reference_runs.rows_of(inputs.root / "ref-text/toy.jsonl")
    if change == "prompt":
        rows[0]["messages"][0]["content"] = "!" + rows[0]["messages"][0]["content"]
    if change == "order":
        columns = [row["ref_logps"] for row in rows]
        rows = [{**row, "ref_logps": column} for row, column in zip(rows, columns[1:] + columns[:1], strict=True)]
    if change in ("model", "tokenizer"):
        rows[1]["ref_logps"][change] = "0" * 16
    if change == "absent":
        rows[1]["ref_logps"] = None
    dataset = write(tmp_path / "toy.jsonl", rows)
    assert_refused(inputs.config("text", dataset=dataset, loss_type="prift", **{**STEP, **settings}), tmp_path, message)


def test_another_picture_of_the_same_size_is_refused(inputs, made, tmp_path):
    from PIL import Image

    rows = reference_runs.rows_of(inputs.root / "ref-vision/pictures.jsonl")
    for row in rows:
        row["images"] = [_copied(Path(image), tmp_path) for image in row["images"]]
    settings = inputs.config("vision", dataset=write(tmp_path / "pictures.jsonl", rows), loss_type="prift", **STEP)
    run_in_process(settings)  # the same pictures in another folder
    Image.new("RGB", Image.open(rows[0]["images"][0]).size, "green").save(rows[0]["images"][0])
    assert_refused(settings, tmp_path, "the row itself was changed")


def _copied(path, folder):
    (folder / path.name).write_bytes(path.read_bytes())
    return str(folder / path.name)


def test_what_cannot_have_a_reference_is_refused(inputs, made, tmp_path):
    def refused(message, out=tmp_path / "out", **settings):
        with pytest.raises(ConfigError, match=message):
            reference_runs.make(inputs.references["text"], inputs.config("text", **settings), out)

    refused("split makes several samples", truncation_strategy="split")
    refused("rope_scaling='linear'", rope_scaling="linear")
    refused("a .json or .jsonl file on this machine", dataset=["nobody/nothing"])
    refused("differs in: .*max_length=90", out=inputs.root / "ref-text", max_length=40)
    with pytest.raises(OptionError, match="no column 'ref_logps'"):
        run_in_process(inputs.config("text", loss_type="prift"))
    referenced = made["text"]["changes"]
    with pytest.raises(ConflictError, match="the reference has one"):
        split = {"truncation_strategy": "split", "use_chat_template": False}
        run_in_process(inputs.config("text", **referenced, loss_type="prift", **split))
