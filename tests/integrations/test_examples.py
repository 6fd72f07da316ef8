"""Every YAML example is accepted by the real framework's own argument parser, and pairs differ in the loss alone."""

import json
from pathlib import Path

import pytest
import yaml

from tests.integrations import tiny, tiny_vl

EXAMPLES = Path(__file__).parents[2] / "yaml_examples"
NAMES = [f"{task}_{loss}" for task in ("math", "code", "vision", "facts") for loss in ("sft", "dft")] + ["mixed_route"]
LLAMAFACTORY = [*(f"llamafactory/{name}.yaml" for name in NAMES), "demo/gsm8k_dft.yaml"]
MS_SWIFT = [*(f"ms_swift/{name}.yaml" for name in NAMES), "demo/gsm8k_dft_ms_swift.yaml"]

third_party = pytest.mark.filterwarnings("ignore")


def load(name):
    return yaml.safe_load((EXAMPLES / name).read_text())


def test_every_file_is_tested():
    found = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.yaml") if path.parent.name != "eval"}
    assert found == {*LLAMAFACTORY, *MS_SWIFT}


@pytest.mark.parametrize("folder", ["llamafactory", "ms_swift"])
@pytest.mark.parametrize("task", ["math", "code", "vision", "facts"])
def test_pairs_differ_in_the_loss_and_the_output_folder_alone(folder, task):
    sft, dft = (load(f"{folder}/{task}_{loss}.yaml") for loss in ("sft", "dft"))
    assert {key for key in sft.keys() | dft.keys() if sft.get(key) != dft.get(key)} == {"loss_type", "output_dir"}
    assert (sft["loss_type"], dft["loss_type"]) == ("sft", "dft")


@pytest.mark.parametrize("name", [*LLAMAFACTORY, *MS_SWIFT])
def test_every_file_opens_with_its_launch_line(name):
    comments = [line for line in (EXAMPLES / name).read_text().splitlines() if line.startswith("#")]
    command = "llamafactory-cli train" if name in LLAMAFACTORY else "swift sft"
    assert any(f"{command} yaml_examples/{name}" in line for line in comments)


@pytest.mark.slow
@third_party
@pytest.mark.llamafactory
@pytest.mark.parametrize("name", LLAMAFACTORY)
def test_llamafactory_parses(name, monkeypatch):
    from llamafactory.data.parser import get_dataset_list
    from llamafactory.hparams.parser import _parse_train_args

    monkeypatch.chdir(EXAMPLES.parent)
    settings = load(name)
    # without a GPU, transformers refuses bf16 and DeepSpeed its own launch; all other keys stay as they are
    settings |= {"use_cpu": True, "deepspeed": None}
    _, data_args, training_args, finetuning_args, _ = _parse_train_args(settings)
    assert finetuning_args.loss_type == load(name)["loss_type"]
    assert training_args.learning_rate == load(name)["learning_rate"]
    if name.startswith("llamafactory/"):
        for dataset in get_dataset_list(data_args.dataset, data_args.dataset_dir):
            assert dataset.prompt or dataset.messages


@pytest.mark.slow
@third_party
@pytest.mark.swift
@pytest.mark.parametrize("name", MS_SWIFT)
def test_ms_swift_parses(name, monkeypatch, tmp_path):
    from swift.arguments import SftArguments
    from swift.cli.main import parse_yaml_args
    from swift.utils import parse_args

    monkeypatch.chdir(EXAMPLES.parent)
    make = tiny_vl.make_vl_model if "vision" in name else tiny.make_text_model
    local = {  # what is fetched from a hub, or needs a GPU; all other keys stay as they are
        "model": str(make(tmp_path / "model")),
        "model_type": "qwen2_5_vl" if "vision" in name else "qwen2",
        "output_dir": str(tmp_path / "out"),
        "use_cpu": True,
        "deepspeed": None,
    }
    settings = {key: value for key, value in {**load(name), **local}.items() if value is not None}
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(settings))
    words = [str(file)]
    parse_yaml_args(words)
    arguments, unknown = parse_args(SftArguments, words)
    assert not unknown
    assert arguments.training_args.loss_type == load(name)["loss_type"]
    assert arguments.training_args.learning_rate == load(name)["learning_rate"]


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_deepspeed_files(stage):
    assert json.loads((EXAMPLES / f"deepspeed/zero{stage}.json").read_text())["zero_optimization"]["stage"] == stage
