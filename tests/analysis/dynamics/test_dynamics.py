"""Checkpoints of training runs by step: scores, bands, resuming after a kill, and what is refused."""

import csv
import io
import json
import shutil

import pytest
import yaml
from rich.console import Console

from dft_eval.backends.hf import HfBackend
from dft_eval.run.local_pool import LocalPool
from dft_plugin.analysis.dynamics.run import DynamicsSettings, run_dynamics
from dft_plugin.analysis.dynamics.tables import print_dynamics
from dft_plugin.analysis.probs.checkpoints import Checkpoint
from dft_plugin.errors import ConfigError, InputError, MissingPrerequisiteError
from tests.analysis.dynamics.even_length import EvenLength
from tests.analysis.probs.checkpoints import write_rows
from tests.eval.arithmetic import write_data
from tests.integrations.tiny import make_text_model, samples, write_llamafactory_data

NUM_PROBLEMS = 9


CATALOG = {"even": EvenLength}
POOL = LocalPool(num_workers=1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs from one base, by plain steps of AdamW, each with checkpoints 2, 4 and 5."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("runs")
    base = make_text_model(folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(base)
    for name, rate in (("slow", 1e-3), ("fast", 2e-2)):
        model = AutoModelForCausalLM.from_pretrained(base)
        optimiser = torch.optim.AdamW(model.parameters(), lr=rate)
        for step, row in enumerate(samples(5), 1):
            ids = torch.tensor([tokenizer(row["question"] + row["answer"])["input_ids"]])
            model(input_ids=ids, labels=ids).loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            if step in (2, 4, 5):
                model.save_pretrained(folder / name / f"checkpoint-{step}")
                tokenizer.save_pretrained(folder / name / f"checkpoint-{step}")
                (folder / name / f"checkpoint-{step}/trainer_state.json").write_text(json.dumps({"global_step": step}))
        (folder / name / "args.json").write_text(json.dumps({"model": str(base)}))
    return folder


@pytest.fixture
def ask(runs, tmp_path, monkeypatch):
    """Settings of the two runs over nine problems and four held-out rows."""
    monkeypatch.setenv("DFT_DATA_DIR", str(write_data(tmp_path / "data")))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = tmp_path / "eval.yaml"
    backend = {"kind": "hf", "device": "cpu", "batch_size": 9}
    content = {"model": "unused", "tasks": ["even"], "interface": "completion", "backend": backend, "out": "unused"}
    config.write_text(yaml.safe_dump({**content, "limit": NUM_PROBLEMS}))

    def settings(*names, out="out", **options):
        chosen = tuple(Checkpoint(name, str(runs / name)) for name in names or ("slow", "fast"))
        return DynamicsSettings(runs=chosen, config=config, out=tmp_path / out, device="cpu", **options)

    return settings


def test_every_step_on_the_same_problems(ask, runs, tmp_path):
    rows = write_rows(tmp_path / "chats.jsonl", 4)
    result = run_dynamics(ask(data=(rows,)), CATALOG, POOL)
    slow, fast = result["runs"]
    assert [point["step"] for point in slow["points"]] == [0, 2, 4, 5] and slow["base"] == str(runs / "model")
    assert slow["points"][0] == fast["points"][0]  # one base, evaluated once
    assert len(list((tmp_path / "out/eval").rglob("run.json"))) == 7
    for run in result["runs"]:
        for point in run["points"]:
            one = point["tasks"]["even"]
            lines = (tmp_path / "out/eval").joinpath(*_label(run, point), "even/scores.jsonl").read_text().splitlines()
            passes = [json.loads(line)["passed"] for line in lines]
            assert len(passes) == one["num_items"] == NUM_PROBLEMS
            assert (
                one["value"] == pytest.approx(sum(passes) / NUM_PROBLEMS) and one["low"] <= one["value"] <= one["high"]
            )
            assert point["nll"]["low"] < point["nll"]["value"] < point["nll"]["high"]
            assert point["one_minus_p"]["low"] < point["one_minus_p"]["value"] < point["one_minus_p"]["high"]
        first, last = run["points"][0]["tasks"]["even"], run["points"][-1]["tasks"]["even"]
        assert last["from_step_0"]["value"] == pytest.approx(last["value"] - first["value"])
        values = [point["tasks"]["even"]["value"] for point in run["points"]]
        assert run["points"][values.index(max(values))]["step"] == run["best"]["even"]
    assert fast["points"][-1]["nll"]["value"] != slow["points"][-1]["nll"]["value"]
    lines = list(csv.DictReader((tmp_path / "out/dynamics.csv").read_text().splitlines()))
    assert len(lines) == 2 * 4 * 3 and lines[0]["measure"] == "even" and lines[0]["step"] == "0"
    assert json.loads((tmp_path / "out/dynamics.json").read_text()) == result
    assert (tmp_path / "out/dynamics.png").read_bytes().startswith(b"\x89PNG")
    console = Console(file=io.StringIO(), width=150)
    print_dynamics(result, console)
    assert "selection" in console.file.getvalue() and "held-out nll" in console.file.getvalue()


def _label(run, point):
    if point["step"]:
        return run["name"], f"step-{point['step']}"
    import hashlib

    return "base", f"model-{hashlib.sha256(run['base'].encode()).hexdigest()[:8]}"


class Interrupted(BaseException):
    pass


@pytest.mark.slow
def test_a_killed_run_asks_nothing_twice(ask, monkeypatch):
    whole = run_dynamics(ask("fast", out="whole"), CATALOG, POOL)
    generate, asked = HfBackend.generate, []

    def stop_at_the_third_model(self, requests):
        asked.append(len(requests))
        if len(asked) == 3:
            raise Interrupted
        return generate(self, requests)

    monkeypatch.setattr(HfBackend, "generate", stop_at_the_third_model)
    with pytest.raises(Interrupted):
        run_dynamics(ask("fast"), CATALOG, POOL)
    resumed = run_dynamics(ask("fast"), CATALOG, POOL)
    assert asked == [NUM_PROBLEMS] * 5  # four models, the third one twice
    for mine, theirs in zip(resumed["runs"][0]["points"], whole["runs"][0]["points"], strict=True):
        mine["tasks"]["even"].pop("run_folder"), theirs["tasks"]["even"].pop("run_folder")
    assert resumed["runs"] == whole["runs"]


@pytest.mark.slow
def test_every_keeps_multiples_and_the_last(ask):
    result = run_dynamics(ask("slow", every=4), CATALOG, POOL)
    assert [point["step"] for point in result["runs"][0]["points"]] == [0, 4, 5]


def test_refusals(ask, runs, tmp_path):
    def refused(kind, match, **options):
        folder = tmp_path / "run"
        given = ask("slow", **options)
        with pytest.raises(kind, match=match):
            run_dynamics(DynamicsSettings(**{**vars(given), "runs": (Checkpoint("run", str(folder)),)}), CATALOG, POOL)

    refused(MissingPrerequisiteError, "is not there")
    shutil.copytree(runs / "slow", tmp_path / "run")
    (tmp_path / "run/args.json").unlink()
    refused(ConfigError, "does not say which model it began with.*--base MODEL")
    (tmp_path / "run/README.md").write_text("---\nlibrary_name: transformers\n---\nno base\n")
    refused(ConfigError, "--base MODEL")
    state = tmp_path / "run/checkpoint-4/trainer_state.json"
    state.write_text(json.dumps({"global_step": 3}))
    refused(InputError, "is of step 3", base="b")
    (tmp_path / "run/checkpoint-2/adapter_config.json").write_text("{}")
    refused(ConfigError, "holds an adapter.*Merge each", base="b")
    for path in (tmp_path / "run").glob("checkpoint-*"):
        shutil.rmtree(path)
    refused(ConfigError, "has no checkpoint-N", base="b")


@pytest.mark.slow
@pytest.mark.llamafactory
def test_a_run_of_llamafactory_names_its_base(ask, runs, tmp_path):
    from tests.integrations.llamafactory_runs import config, run_in_process

    data = write_llamafactory_data(tmp_path / "toy", 8)
    saved = {"save_strategy": "steps", "save_steps": 1, "max_steps": 2, "loss_type": "dft"}
    run_in_process(config(runs / "model", data, tmp_path / "lf", **saved))
    given = ask("slow")
    trained = DynamicsSettings(**{**vars(given), "runs": (Checkpoint("lf", str(tmp_path / "lf")),)})
    rows = write_rows(tmp_path / "chats.jsonl", 4)
    (run,) = run_dynamics(DynamicsSettings(**{**vars(trained), "data": (rows,)}), CATALOG, POOL)["runs"]
    assert run["base"] == str(runs / "model") and [point["step"] for point in run["points"]] == [0, 1, 2]
    assert len({point["nll"]["value"] for point in run["points"]}) == 3
