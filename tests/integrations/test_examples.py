"""Every YAML example is accepted by the real framework's own argument parser, and means what it says there."""

import copy
import json
import os
from pathlib import Path

import pytest
import yaml

from tests.examples import keys
from tests.examples.table import load, runs
from tests.integrations import tiny, tiny_vl
from tests.integrations.forked_ranks import free_port

EXAMPLES = Path(__file__).parents[2] / "yaml_examples"
RUNS = list(runs(load()))
DEMO = {"llamafactory": "demo/gsm8k_dft.yaml", "ms_swift": "demo/gsm8k_dft_ms_swift.yaml"}
STUDIES = {
    "llamafactory": ["study/toy/base.yaml", "study/toy/mixed.yaml", "study/smollm2/llamafactory.yaml"],
    "ms_swift": ["study/smollm2/ms_swift.yaml"],
}
ONE_PROCESS = {"use_cpu": True, "deepspeed": None}  # without a GPU; all other keys stay as they are

QUESTION, ANSWER = {"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}
CHATML = "<|im_start|>system\n{}<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n2<|im_end|>\n"
LLAMA_TURN = "<|start_header_id|>{}<|end_header_id|>\n\n{}<|eot_id|>"
TEXTS = {  # what both frameworks train on; the start token aside, which the tiny tokenizer lacks
    "qwen2.5-math-1.5b": CHATML.format("Please reason step by step, and put your final answer within \\boxed{}."),
    "qwen2.5-3b": CHATML.format("You are Qwen, created by Alibaba Cloud. You are a helpful assistant."),
    "qwen2.5-vl-3b": CHATML.format("You are a helpful assistant."),
    "llama-3.2-3b": LLAMA_TURN.format("user", "1+1?") + LLAMA_TURN.format("assistant", "2"),
}


@pytest.fixture
def process_as_before(monkeypatch):
    """Undo what parsing sets for the whole process: ms-swift's PPO starts a process group, YAML files have ENV."""
    import torch
    from accelerate.state import AcceleratorState

    before = dict(os.environ)
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    AcceleratorState._reset_state(True)
    os.environ.clear()
    os.environ.update(before)


third_party = pytest.mark.filterwarnings("ignore")


def names(framework):
    return [*(run.path.removeprefix("yaml_examples/") for run in RUNS if run.framework == framework), DEMO[framework]]


def read(name):
    return yaml.safe_load((EXAMPLES / name).read_text())


def overridden(line):
    """The settings of a launch line's overrides."""
    words = line.replace("--output_dir ", "--output_dir=").split()
    found = {}
    for index, word in enumerate(words):
        key, equals, value = word.removeprefix("--").partition("=")
        if equals and key != "FORCE_TORCHRUN" and key != "NPROC_PER_NODE":
            found[key] = yaml.safe_load(value)
        elif word.startswith("--"):
            found[key] = yaml.safe_load(words[index + 1])
    return found


def cases(framework):
    """Every file, and every variant its comments have a line for."""
    variants = [
        (run.path.removeprefix("yaml_examples/"), overridden(keys.variant(run, name, changed)))
        for run in RUNS
        if run.framework == framework
        for name, changed in run.variants.items()
    ]
    return [*((name, {}) for name in names(framework)), *variants]


def test_every_file_is_tested():
    found = {
        str(path.relative_to(EXAMPLES))
        for path in EXAMPLES.rglob("*.yaml")
        if path.parent.name not in ("eval", "rollout") and "study" not in path.parts
    }
    assert found == {*names("llamafactory"), *names("ms_swift")}
    trained = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.glob("study/*/*.yaml") if "tasks" not in read(path)}
    assert trained == {*STUDIES["llamafactory"], *STUDIES["ms_swift"]}  # studies themselves: tests/study/test_design.py


@pytest.mark.parametrize("framework", ["llamafactory", "ms_swift"])
def test_the_demo_opens_with_its_launch_line(framework):
    command = {"llamafactory": "llamafactory-cli train", "ms_swift": "swift sft"}[framework]
    assert f"#   {command} yaml_examples/{DEMO[framework]}\n" in (EXAMPLES / DEMO[framework]).read_text()


def expected_text(name):
    """What a full sft run trains on; None for other files, which are as their pair's."""
    model, _, rest = Path(name).stem.partition("_")
    return TEXTS.get(model) if rest == "full_sft" else None


def assert_sizes(training_args, settings, name):
    for key in ("per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate", "num_train_epochs"):
        assert getattr(training_args, key) == settings[key], (name, key)
    for key in ("weight_decay", "adam_beta2"):
        assert getattr(training_args, key) == settings.get(key, getattr(training_args, key)), (name, key)
    assert training_args.lr_scheduler_type == "cosine" and training_args.max_grad_norm == 1.0
    assert training_args.get_warmup_steps(400) == 400 * settings["warmup_ratio"], name


@pytest.fixture(scope="module")
def tiny_models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "text": ("qwen2", str(tiny.make_text_model(folder / "text"))),
        "vision": ("qwen2_5_vl", str(tiny_vl.make_vl_model(folder / "vision"))),
    }


@pytest.mark.slow
@third_party
@pytest.mark.llamafactory
def test_llamafactory_parses(monkeypatch, tiny_models):
    from llamafactory.data.template import TEMPLATES, get_template_and_fix_tokenizer
    from llamafactory.hparams.parser import _parse_train_args
    from transformers import AutoTokenizer

    monkeypatch.chdir(EXAMPLES.parent)
    for name, changed in cases("llamafactory"):
        settings = read(name) | changed
        model_args, data_args, training_args, finetuning_args, _ = _parse_train_args(dict(settings) | ONE_PROCESS)
        assert finetuning_args.loss_type == settings.get("loss_type"), name
        assert finetuning_args.stage == settings["stage"] and data_args.template in TEMPLATES, name
        assert data_args.cutoff_len == settings["cutoff_len"] and not data_args.packing, name
        assert data_args.default_system == settings.get("default_system"), name
        assert training_args.output_dir == settings["output_dir"], name
        assert_sizes(training_args, settings, name)
        if text := expected_text(name):
            tokenizer = AutoTokenizer.from_pretrained(tiny_models["text"][1])
            with monkeypatch.context() as patch:  # default_system is written into the registered template itself
                patch.setitem(TEMPLATES, data_args.template, copy.copy(TEMPLATES[data_args.template]))
                template = get_template_and_fix_tokenizer(tokenizer, data_args)
            prompt, response = template.encode_oneturn(tokenizer, [QUESTION, ANSWER])
            assert tokenizer.decode(prompt + response) == text, name
        if settings["finetuning_type"] == "lora":
            assert (finetuning_args.lora_rank, finetuning_args.lora_alpha, finetuning_args.lora_dropout) == (8, 16, 0.0)
        assert model_args.disable_gradient_checkpointing == name.startswith("demo/")
        assert model_args.image_max_pixels == settings.get("image_max_pixels", 768 * 768), name


@pytest.mark.slow
@third_party
@pytest.mark.swift
@pytest.mark.usefixtures("process_as_before")
def test_ms_swift_parses(monkeypatch, tmp_path, tiny_models):
    from swift.arguments import RLHFArguments, SftArguments
    from swift.cli.main import parse_yaml_args
    from swift.template import TEMPLATE_MAPPING
    from swift.utils import parse_args

    monkeypatch.chdir(EXAMPLES.parent)
    monkeypatch.setenv("ROOT_IMAGE_DIR", "data/wethink_images")  # as a file's ENV says; it would stay set
    file = tmp_path / "run.yaml"
    for name, changed in cases("ms_swift"):
        settings = read(name) | changed
        model_type, model = tiny_models["vision" if name.startswith("ms_swift/vision") else "text"]
        # what is fetched from a hub stands here as well
        local = {"model": model, "model_type": model_type, "output_dir": str(tmp_path / "out"), **ONE_PROCESS}
        if "reward_model" in settings:
            local |= {"reward_model": model, "reward_model_type": model_type}
        file.write_text(yaml.safe_dump({k: v for k, v in (settings | local).items() if v is not None}))
        words = [str(file)]
        parse_yaml_args(words)
        arguments, unknown = parse_args(RLHFArguments if "rlhf_type" in settings else SftArguments, words)
        assert not unknown, name
        assert arguments.template in TEMPLATE_MAPPING and arguments.template == settings["template"], name
        assert (arguments.max_length, arguments.truncation_strategy) == (
            settings["max_length"],
            settings["truncation_strategy"],
        )
        assert arguments.training_args.gradient_checkpointing != name.startswith("demo/")
        assert not arguments.packing and arguments.split_dataset_ratio == 0, name
        assert arguments.training_args.output_dir == arguments.output_dir == str(tmp_path / "out"), "add_version"
        assert_sizes(arguments.training_args, settings, name)
        if "loss_type" in settings:
            assert arguments.training_args.loss_type == settings["loss_type"], name
        else:
            assert arguments.rlhf_type == settings["rlhf_type"], name
        if text := expected_text(name):
            template = arguments.get_template()
            template.set_mode("train")
            ids = template.encode({"messages": [QUESTION, ANSWER]})["input_ids"]
            assert template.tokenizer.decode(ids).removeprefix("<|begin_of_text|>") == text, name
        if settings["tuner_type"] == "lora":
            assert (arguments.lora_rank, arguments.lora_alpha, arguments.lora_dropout) == (8, 16, 0.0)


@pytest.mark.slow
@third_party
@pytest.mark.llamafactory
def test_llamafactory_parses_what_studies_train(tiny_models, tmp_path):
    from llamafactory.hparams.parser import _parse_train_args

    given = {"model_name_or_path": tiny_models["text"][1], "output_dir": str(tmp_path), "seed": 1}
    for name in STUDIES["llamafactory"]:
        settings = read(name)
        _, data_args, training_args, finetuning_args, _ = _parse_train_args(settings | given)
        assert finetuning_args.loss_type == settings["loss_type"] and data_args.cutoff_len == settings["cutoff_len"]
        assert training_args.learning_rate == settings["learning_rate"] and training_args.seed == 1


@pytest.mark.slow
@third_party
@pytest.mark.swift
@pytest.mark.usefixtures("process_as_before")
def test_ms_swift_parses_what_studies_train(tmp_path, tiny_models):
    from swift.arguments import SftArguments
    from swift.cli.main import parse_yaml_args
    from swift.utils import parse_args

    model_type, model = tiny_models["text"]
    for name in STUDIES["ms_swift"]:
        settings = read(name)
        given = {"model": model, "model_type": model_type, "output_dir": str(tmp_path / "out"), "add_version": False}
        file = tmp_path / "run.yaml"
        file.write_text(yaml.safe_dump(settings | given))
        words = [str(file)]
        parse_yaml_args(words)
        arguments, unknown = parse_args(SftArguments, words)
        assert not unknown and arguments.training_args.loss_type == settings["loss_type"]
        assert arguments.training_args.bf16 == settings["bf16"] and arguments.max_length == settings["max_length"]
        assert str(arguments.torch_dtype) == f"torch.{settings['torch_dtype']}"


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_deepspeed_files(stage):
    assert json.loads((EXAMPLES / f"deepspeed/zero{stage}.json").read_text())["zero_optimization"]["stage"] == stage
