"""`dft reference` and its column through the real LLaMA-Factory: equal to two models, resumed, shared out, refused."""

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
import yaml

from dft_eval.run.shards import Shard
from dft_plugin.errors import ConfigError, ConflictError, InputError, OptionError
from tests.integrations import reference_runs, tiny, tiny_vl, two_models
from tests.integrations.llamafactory_runs import config, history, run_in_process

pytestmark = [
    pytest.mark.llamafactory,
    pytest.mark.slow,
    # The framework's own imports and calls warn about things we do not decide.
    pytest.mark.filterwarnings("ignore"),
]

# cutoff_len cuts some of the rows
SETTINGS = {
    "text": {"dataset": "toy", "cutoff_len": 143},
    "packed": {"dataset": "toy", "cutoff_len": 144, "packing": True, "neat_packing": True},
    "vision": {
        **{"dataset": "toy_vl,toy", "template": "qwen2_vl", "cutoff_len": 90, "preprocessing_num_workers": None},
        **{"image_max_pixels": 3136},
    },
}
# one optimiser step over every row
STEP = {"max_steps": 1, "learning_rate": 0.0, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 100}


class Inputs:
    def __init__(self, root):
        self.root = root
        makers = {"text": tiny.make_text_model, "vision": tiny_vl.make_vl_model}
        self.models = {name: make(root / name) for name, make in makers.items()}
        self.references = {name: make(root / f"{name}-reference", seed=1) for name, make in makers.items()}
        self.data = tiny.write_llamafactory_data(root / "data", count=24)
        tiny_vl.write_vl_data(self.data, count=12)

    def kind(self, name):
        return "vision" if name == "vision" else "text"

    def config(self, name, **overrides):
        settings = {**SETTINGS[name], **overrides}
        return config(self.models[self.kind(name)], self.data, self.root / f"run-{name}", **settings)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return Inputs(tmp_path_factory.mktemp("reference"))


@pytest.fixture(scope="module")
def made(inputs):
    return reference_runs.make_all(inputs, SETTINGS)


def test_the_data_are_written_again_with_a_column_more(inputs, made):
    before = json.loads((inputs.data / "toy.json").read_text())
    after = reference_runs.rows_of(inputs.root / "ref-text/toy.jsonl")
    assert [{key: value for key, value in row.items() if key != "ref_logps"} for row in after] == before
    assert made["text"]["files"]["toy"]["num_rows"] == 24 and made["text"]["files"]["toy"]["num_skipped"] == 0
    # the same reference and the same tokens: packing does not change what a row gets
    packed = reference_runs.rows_of(inputs.root / "ref-packed/toy.jsonl")
    assert [row["ref_logps"] for row in packed] == [row["ref_logps"] for row in after]


@pytest.mark.parametrize("name", SETTINGS)
def test_losses_are_those_of_two_models_in_float64(inputs, made, name):
    from dft_plugin.integrations.llamafactory.rows import LlamaFactoryRows

    kind = inputs.kind(name)
    policy, reference = (
        two_models.load(models[kind], is_image_model=kind == "vision") for models in (inputs.models, inputs.references)
    )
    rows = LlamaFactoryRows(inputs.config(name), inputs.root)
    rows.use_model(policy)
    encoded = [rows.encode(index, row) for index, file in enumerate(rows.files) for row in range(file.num_rows)]
    lengths = [len(row.input_ids) for row in encoded]
    limit = SETTINGS[name]["cutoff_len"] - (name == "packed")
    assert limit in lengths and min(lengths) < limit, "some rows are cut, and some are not"
    expected = two_models.losses(policy, reference, map(rows.batch, encoded))
    for objective, options in two_models.OBJECTIVES.items():
        changes = {**made[name]["changes"], "loss_type": objective, **STEP}
        if options:
            changes["loss_config"] = options
        (step,) = history(run_in_process(inputs.config(name, **changes)))
        assert step["loss"] == pytest.approx(expected[objective], rel=2e-5), objective
    assert len({round(loss, 3) for loss in expected.values()}) == 3, "the objectives differ"


def test_a_killed_one_resumes_and_shares_merge_to_the_same_bytes(inputs, made):
    # what forks must not have threads
    assert torch.get_num_threads() == 1 or torch.set_num_threads(1) is None
    settings, model = inputs.config("text", dataset="toy,toy_vl"), inputs.references["text"]
    info = json.loads((inputs.data / "dataset_info.json").read_text())
    del info["toy_vl"]["columns"]["images"]
    data = inputs.root / "two"
    shutil.copytree(inputs.data, data)
    text_rows = [
        {"messages": [{**turn, "content": turn["content"].replace("<image>", "")} for turn in row["messages"]]}
        for row in json.loads((data / "toy_vl.json").read_text())
    ]
    (data / "toy_vl.json").write_text(json.dumps(text_rows))
    (data / "dataset_info.json").write_text(json.dumps(info))
    settings["dataset_dir"] = str(data)

    whole = reference_runs.make(model, settings, inputs.root / "whole")
    killed = inputs.root / "killed"
    assert reference_runs.make_and_die(model, settings, killed, after=30) == -signal.SIGKILL
    part = killed / "parts/0-of-1.jsonl"
    assert len(part.read_text().splitlines()) == 30 and not (killed / "toy.jsonl").exists()
    part.write_bytes(part.read_bytes()[:-9])  # and the last record was half written
    again = reference_runs.make(model, settings, killed)
    first = reference_runs.make(model, settings, inputs.root / "shares", Shard(1, 2))
    assert first["status"] == "running" and (first["num_rows_done"], first["num_rows"]) == (18, 36)
    second = reference_runs.make(model, settings, inputs.root / "shares", Shard(0, 2))
    for name in ("toy", "toy_vl"):
        hashes = {result["files"][name]["sha256"] for result in (whole, again, second)}
        assert len(hashes) == 1, name
        contents = {(inputs.root / folder / f"{name}.jsonl").read_bytes() for folder in ("whole", "killed", "shares")}
        assert len(contents) == 1
    assert again["files"]["toy"] == {**whole["files"]["toy"], "path": again["files"]["toy"]["path"]}


def write(folder, rows, name="toy"):
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def change_nothing(folder):
    pass


def change_the_prompt(folder):
    rows = reference_runs.rows_of(folder / "toy.jsonl")
    rows[3]["question"] = "!" + rows[3]["question"]
    write(folder, rows)


def swap_two_columns(folder):
    rows = reference_runs.rows_of(folder / "toy.jsonl")
    rows[3]["ref_logps"], rows[4]["ref_logps"] = rows[4]["ref_logps"], rows[3]["ref_logps"]
    write(folder, rows)


def shift_all_columns(folder):
    rows = reference_runs.rows_of(folder / "toy.jsonl")
    columns = [row["ref_logps"] for row in rows]
    write(folder, [{**row, "ref_logps": column} for row, column in zip(rows, columns[1:] + columns[:1], strict=True)])


def lose_one_column(folder):
    rows = reference_runs.rows_of(folder / "toy.jsonl")
    rows[3]["ref_logps"] = None
    write(folder, rows)


def take_one_of_another_model(folder):
    rows = reference_runs.rows_of(folder / "toy.jsonl")
    rows[3]["ref_logps"]["model"] = "0" * 16
    write(folder, rows)


def take_one_of_another_tokenizer(folder):
    rows = reference_runs.rows_of(folder / "toy.jsonl")
    rows[3]["ref_logps"]["tokenizer"] = "0" * 16
    write(folder, rows)


@pytest.mark.parametrize(
    ("change", "settings", "error", "message"),
    [
        (change_nothing, {"template": "llama3"}, InputError, "made with .*template=qwen.* the run has .*llama3"),
        (change_nothing, {"cutoff_len": 40}, InputError, "cutoff_len=143.* the run has .*cutoff_len=40"),
        (change_nothing, {"cutoff_len": 400}, InputError, "cutoff_len=143.* the run has .*cutoff_len=400"),
        (change_nothing, {"train_on_prompt": True}, InputError, "the run has .*train_on_prompt=True"),
        (change_nothing, {"packing": True}, ConflictError, "Set neat_packing: true"),
        (change_the_prompt, {}, InputError, "the row itself was changed"),
        (swap_two_columns, {}, InputError, "the column of another row"),
        (shift_all_columns, {}, InputError, "the column of another row"),
        (lose_one_column, {}, InputError, "holds None; the objective needs the column that `dft reference`"),
        (take_one_of_another_model, {}, InputError, "of 2 models"),
        (take_one_of_another_tokenizer, {}, InputError, "has tokenizer 0000000000000000, the run uses"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "-".join(value) if isinstance(value, dict) else "",
)
def test_a_reference_of_other_tokens_is_refused(inputs, made, tmp_path, change, settings, error, message):
    folder = tmp_path / "changed"
    shutil.copytree(inputs.root / "ref-text", folder)
    change(folder)
    changes = {"dataset_dir": str(folder), "loss_type": "prift", "max_steps": 1, **settings}
    with pytest.raises(error, match=message):
        run_in_process(inputs.config("text", **changes))


def test_shuffled_and_left_out_rows_keep_their_references(inputs, made, tmp_path):
    shutil.copytree(inputs.root / "ref-text", tmp_path / "fewer")
    write(tmp_path / "fewer", reference_runs.rows_of(inputs.root / "ref-text/toy.jsonl")[20:3:-1])
    run_in_process(inputs.config("text", dataset_dir=str(tmp_path / "fewer"), loss_type="prift", **STEP))


def test_another_picture_of_the_same_size_is_refused(inputs, made, tmp_path):
    from PIL import Image

    shutil.copytree(inputs.data, tmp_path / "data")
    folder = tmp_path / "ref"
    shutil.copytree(inputs.root / "ref-vision", folder)
    rows = [
        {**row, "images": [str(tmp_path / "data" / Path(image).name) for image in row["images"]]}
        for row in reference_runs.rows_of(folder / "toy_vl.jsonl")
    ]
    write(folder, rows, "toy_vl")
    changes = {**made["vision"]["changes"], "dataset_dir": str(folder), "loss_type": "prift", **STEP}
    run_in_process(inputs.config("vision", **changes))  # the same pictures in another folder
    picture = Path(rows[3]["images"][0])
    Image.new("RGB", Image.open(picture).size, "green").save(picture)
    with pytest.raises(InputError, match="the row itself was changed"):
        run_in_process(inputs.config("vision", **changes))


def test_what_cannot_have_a_reference_is_refused(inputs, made, tmp_path):
    model = inputs.references["text"]

    def refused(message, error=ConfigError, model=model, out=tmp_path / "out", name="text", **settings):
        with pytest.raises(error, match=message):
            reference_runs.make(model, inputs.config(name, **settings), out)

    refused("stage=pt", stage="pt", dataset="toy_pt")
    vision = {"model": inputs.references["vision"], "name": "vision", "cutoff_len": 48}
    refused("'toy_vl', row 0 .* refuses the row", InputError, out=tmp_path / "cut", **vision)
    refused("rope_scaling='dynamic'", rope_scaling="dynamic")
    refused("reference.json differs in: made_with", out=inputs.root / "ref-text", cutoff_len=40)
    refused("differs in: .*model_fingerprint", model=inputs.models["text"], out=inputs.root / "ref-text")
    refused("is the folder of .*toy.json", out=inputs.data)
    other = tiny.make_text_model(tmp_path / "other")
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] = {f"{word}": number for word, number in tokenizer["model"]["vocab"].items()}
    tokenizer["added_tokens"][-1]["content"] = "<another>"
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    refused("their token ids mean different texts", model=other)
    with pytest.raises(OptionError, match="no column 'ref_logps'"):
        run_in_process(inputs.config("text", loss_type="prift"))


def test_a_row_the_framework_drops_is_listed_and_never_trained(inputs, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(inputs.data, data)
    rows = json.loads((data / "toy_vl.json").read_text())
    for row in rows:
        row["images"] = []
        row["messages"] = [{**turn, "content": turn["content"].replace("<image>", "")} for turn in row["messages"]]
    rows[2]["messages"] = rows[2]["messages"][:1]  # a question alone
    (data / "toy_vl.json").write_text(json.dumps(rows))
    settings = inputs.config("text", dataset="toy_vl", dataset_dir=str(data))
    result = reference_runs.make(inputs.references["text"], settings, tmp_path / "out")
    assert [row["row"] for row in result["files"]["toy_vl"]["skipped"]] == [2]
    assert "invalid example" in result["files"]["toy_vl"]["skipped"][0]["reason"]
    run_in_process({**settings, **result["changes"], "loss_type": "prift", **STEP})
    written = reference_runs.rows_of(tmp_path / "out/toy_vl.jsonl")
    written[2]["messages"] = written[3]["messages"]
    write(tmp_path / "out", written, "toy_vl")
    with pytest.raises(InputError, match="was dropped when the reference was made"):
        run_in_process({**settings, **result["changes"], "loss_type": "prift", **STEP})


def test_the_yaml_lines_that_are_printed_are_enough(inputs, made):
    import io

    from rich.console import Console

    from dft_plugin.reference.tables import print_reference

    console = Console(file=io.StringIO(), width=100)
    print_reference(made["vision"], console)
    text = console.file.getvalue()
    lines = text[text.index("dataset_dir") :]
    assert yaml.safe_load(lines) == made["vision"]["changes"]
    assert "cutoff_len=90" in text and "image_max_pixels=3136" in text
