"""What each recipe builds trains in both frameworks: two steps, with the loss of the plugin, images included."""

import math
from pathlib import Path

import pytest

from tests.data.builds import build_from
from tests.data.upstream import ROWS, write_upstream
from tests.integrations import tiny, tiny_vl
from tests.integrations.llamafactory_runs import config as llamafactory_config
from tests.integrations.llamafactory_runs import history
from tests.integrations.llamafactory_runs import run_in_process as run_llamafactory

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

RECIPES = [*ROWS, "luffy-46k/system"]
PLUGIN = str(Path(__file__).with_name("swift_tiny_vl.py"))
TRAINING = {"loss_type": "dft", "max_steps": 2, "per_device_train_batch_size": 4}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipes")
    tiny.make_text_model(folder / "text")
    tiny_vl.make_vl_model(folder / "vl")
    return folder


def built(root, recipe, framework):
    """The folder and the name of a dataset with twelve rows."""
    name = recipe.split("/")[0]
    file = write_upstream(root / "upstream" / name, name, 18)
    images = {"image_dir": file.parent / "images"} if name == "wethink" else {}
    out = root / f"{recipe.replace('/', '-')}-{framework}"
    manifest = build_from(recipe, out, file, rows=12, format=framework, **images)
    assert manifest["rows"]["written"] == 12
    return out, manifest["recipe"]["name"]


def assert_trained(entries):
    losses = [entry["loss"] for entry in entries]
    assert len(losses) == 2 and all(math.isfinite(loss) and loss > 0 for loss in losses)
    assert losses[0] < entries[0]["nll"]  # the plugin's loss, which weighs every token below one


@pytest.mark.llamafactory
@pytest.mark.parametrize("recipe", RECIPES)
def test_llamafactory(root, recipe):
    out, name = built(root, recipe, "llamafactory")
    model, images = root / "text", {}
    if name == "wethink":
        model = root / "vl"
        images = {"template": "qwen2_vl", "cutoff_len": 512, "media_dir": str(root / "upstream/wethink/images")}
    settings = {**TRAINING, **images, "dataset": name, "cutoff_len": 512}
    run = run_llamafactory(llamafactory_config(model, out, out / "model", **settings))
    assert_trained(history(run))


@pytest.mark.swift
@pytest.mark.parametrize("recipe", RECIPES)
def test_ms_swift(root, recipe, monkeypatch):
    from tests.integrations import swift_runs

    out, name = built(root, recipe, "ms_swift")
    model, images = root / "text", {}
    if name == "wethink":
        monkeypatch.setenv("ROOT_IMAGE_DIR", str(root / "upstream/wethink/images"))
        model = root / "vl"
        images = {"model_type": "qwen2_5_vl", "template": "tiny_vl", "external_plugins": PLUGIN, "max_length": 1024}
    settings = {**TRAINING, "max_length": 512, **images}
    entries = swift_runs.run_in_process(swift_runs.config(model, out / f"{name}.jsonl", out / "model", **settings))
    assert_trained([entry for entry in entries if "loss" in entry])
