"""The same tokens through tiny checkpoints: against float64 by hand, resuming, and what is refused."""

import io
import json
import math
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from dft_plugin.analysis.probs.checkpoints import parse_checkpoints
from dft_plugin.analysis.probs.run import run_probs
from dft_plugin.analysis.probs.tables import print_probs
from dft_plugin.analysis.probs.tally import ProbTally
from dft_plugin.analysis.probs.words import kind_of
from dft_plugin.analysis.row_scorer import RowScorer
from dft_plugin.analysis.token_probs import count_fine
from dft_plugin.encoding.interface import asked_interface
from dft_plugin.errors import ConfigError, ConflictError, InputError, MissingPrerequisiteError
from tests.analysis.probs.checkpoints import by_hand, make_checkpoints, settings, write_rows


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return make_checkpoints(tmp_path_factory.mktemp("probs"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("data") / "chats.jsonl")


@pytest.fixture(scope="module")
def result(models, rows, tmp_path_factory):
    return run_probs(settings(tmp_path_factory.mktemp("out"), rows, models / "base", models / "moved"))


def test_every_figure_is_that_of_float64_by_hand(result, models, rows):
    base, moved = result["checkpoints"]
    for one in (base, moved):
        by_row = by_hand(models / one["name"], rows)
        pairs = [pair for row in by_row for pair in row]
        p = np.array([value for _, value in pairs])
        assert one["num_tokens"] == result["num_tokens"] == len(p) == sum(one["histogram"])
        assert one["mean_p"] == pytest.approx(p.mean(), rel=1e-5)
        assert one["mean_nll"] == pytest.approx(-np.log(p).mean(), rel=1e-5)
        assert one["share_below_0.05"] == (p < 0.05).mean() and one["share_above_0.95"] == (p > 0.95).mean()
        assert one["histogram"] == np.histogram(p, np.arange(1001) / 1000)[0].tolist()
        low = Counter(token for token, value in pairs if value < 0.05)
        seen = Counter(token for token, _ in pairs)
        for entry in one["lowest_bin"]:
            assert entry["count"] == low[entry["id"]]
            assert entry["share_of_token"] == low[entry["id"]] / seen[entry["id"]]
        assert [entry["count"] for entry in one["lowest_bin"]] == [count for _, count in low.most_common(20)]
        assert sum(entry["num_tokens"] for entry in one["by_class"].values()) == len(p)
        kinds = one["lowest_bin_kinds"].values()
        assert sum(kind["share_of_bin"] for kind in kinds) == pytest.approx(1)
        nll = np.array([-sum(math.log(value) for _, value in row) for row in by_row])
        count = np.array([len(row) for row in by_row])
        rest = nll - nll.sum() / count.sum() * count
        error = math.sqrt(len(nll) / (len(nll) - 1) * (rest**2).sum()) / count.sum()
        low_end, high_end = one["mean_nll_interval"]
        assert (high_end - low_end) / 2 == pytest.approx(2.200985 * error, rel=1e-4)  # Student t, 11 degrees of freedom


def test_shifts_are_changes_on_the_same_tokens(result, models, rows):
    before, after = ([pair for row in by_hand(models / name, rows) for pair in row] for name in ("base", "moved"))
    (shift,) = result["shifts"]
    assert (shift["checkpoint"], shift["against"]) == ("moved", "base")
    changes = [b - a for (_, a), (_, b) in zip(before, after, strict=True)]
    assert shift["mean_change_of_p"] == pytest.approx(np.mean(changes), rel=1e-4)
    summed = Counter()
    for (token, _), change in zip(before, changes, strict=True):
        summed[token] += change
    assert {entry["id"] for entry in shift["tokens"][:5]} == {
        token for token, _ in sorted(summed.items(), key=lambda pair: -abs(pair[1]))[:5]
    }
    for entry in shift["tokens"]:
        assert entry["summed_change_of_p"] == pytest.approx(summed[entry["id"]], rel=1e-3, abs=1e-6)


def test_the_files_and_the_table(result):
    figure = Path(result["figure"])
    assert json.loads(figure.with_name("probs.json").read_text()) == result
    assert figure.read_bytes().startswith(b"\x89PNG")
    console = Console(file=io.StringIO(), width=90)
    print_probs(result, console)
    text = console.file.getvalue()
    assert "moved against base" in text and "function word" in text and "±" in text


def test_edges_of_the_bins():
    below = np.nextafter(0.05, 0)
    p = torch.tensor([0.0, 1.0, 0.05, below, 0.999, np.nextafter(1, 0), 5e-324], dtype=torch.float64)
    counts = count_fine(p)
    assert counts.sum() == 7 and counts[0] == 2 and counts[999] == 3 and counts[50] == 1 and counts[49] == 1
    inner = torch.arange(1, 1000, dtype=torch.float64) / 1000
    assert count_fine(inner)[1:].tolist() == [1] * 999
    tally = ProbTally(3)
    nll = torch.tensor([0.0, 800.0], dtype=torch.float64)  # p is 1, and underflows to 0
    tally.add_row(nll, torch.tensor([5, 5]), torch.tensor([1, 2]))
    assert tally.histogram[[0, 999]].tolist() == [1, 1] and tally.mean_p() == (0.5, None, None)
    tally.add_row(nll[:1], torch.tensor([5]), torch.tensor([1]))
    assert tally.mean_p() == (2 / 3, 0.0, 1.0) and tally.mean_nll()[1] == 0  # no interval leaves what is possible


def test_neither_batch_size_nor_order_changes_a_figure(result, models, rows, tmp_path):
    turned = tmp_path / "chats.jsonl"
    turned.write_text("".join(reversed(rows.read_text().splitlines(keepends=True))))
    for number, (data, options) in enumerate([(rows, {"batch_size": 5}), (turned, {})]):
        again = run_probs(settings(tmp_path / str(number), data, models / "moved", models / "base", **options))
        for one, expected in zip(reversed(again["checkpoints"]), result["checkpoints"], strict=True):
            assert one["histogram"] == expected["histogram"] and one["lowest_bin_kinds"] == expected["lowest_bin_kinds"]
            for key in ("mean_nll", "mean_p", "share_below_0.05", "share_above_0.95", "mean_nll_interval"):
                assert one[key] == pytest.approx(expected[key], rel=1e-6), key
        assert again["shifts"][0]["mean_change_of_p"] == pytest.approx(-result["shifts"][0]["mean_change_of_p"])


class Interrupted(BaseException):
    pass


def test_a_killed_run_measures_no_finished_checkpoint_again(result, models, rows, tmp_path, monkeypatch):
    asked = settings(tmp_path / "out", rows, models / "base", models / "moved")
    nlls, calls = RowScorer.nlls, []

    def stop_in_the_second(self, batch):
        calls.append(len(batch))
        if len(calls) == 15:
            raise Interrupted
        return nlls(self, batch)

    monkeypatch.setattr(RowScorer, "nlls", stop_in_the_second)
    with pytest.raises(Interrupted):
        run_probs(asked)
    assert not (tmp_path / "out/probs.json").exists()
    resumed = run_probs(asked)
    assert len(calls) == 15 + 12
    assert resumed["checkpoints"] == result["checkpoints"] and resumed["shifts"] == result["shifts"]
    assert run_probs(asked) == resumed and len(calls) == 15 + 12
    with pytest.raises(ConfigError, match=r"settings\.json differs in: samples 200 -> 4; .*use a new --out"):
        run_probs(settings(tmp_path / "out", rows, models / "base", models / "moved", samples=4))
    moved = tmp_path / "base"
    shutil.copytree(models / "moved", moved)
    with pytest.raises(ConfigError, match=r"another checkpoint 'base': weights_sha256"):
        run_probs(settings(tmp_path / "out", rows, moved))


def test_checkpoints_that_read_other_tokens_are_refused_by_name(models, rows, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(models / "moved", other)
    file = next(path for path in (other / "chat_template.jinja", other / "tokenizer_config.json") if path.is_file())
    file.write_text(file.read_text().replace("<|im_start|>", "<|im_end|>"))
    with pytest.raises(InputError, match=r"'base' and 'other' read other tokens: dataset 'chats', line 1: token 0 is"):
        run_probs(settings(tmp_path / "out", rows, models / "base", other))


def test_values_that_are_not_finite_are_refused(models, rows, tmp_path):
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(models / "base", broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"checkpoint 'broken': dataset 'chats', line 1: .*not finite"):
        run_probs(settings(tmp_path / "out", rows, models / "base", broken))


def test_an_adapter_is_measured_on_its_base(result, models, rows, tmp_path):
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(models / "base")
    lora = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    lora.save_pretrained(tmp_path / "adapter")
    merged = tmp_path / "merged"
    lora.merge_and_unload().save_pretrained(merged)
    for path in (models / "base").iterdir():
        if not (merged / path.name).exists():
            shutil.copy(path, merged)
    found = run_probs(settings(tmp_path / "out", rows, models / "base", tmp_path / "adapter", merged))
    base, adapter, whole = found["checkpoints"]
    assert base["mean_nll"] == result["checkpoints"][0]["mean_nll"] and adapter["base"] == str(models / "base")
    assert adapter["mean_nll"] == pytest.approx(whole["mean_nll"], rel=1e-5)
    assert abs(adapter["mean_nll"] - base["mean_nll"]) > 1e-3
    config = tmp_path / "adapter/adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"peft_type": "PREFIX_TUNING"}))
    with pytest.raises(ConfigError, match=r"PREFIX_TUNING.*Merge it first"):
        run_probs(settings(tmp_path / "out2", rows, tmp_path / "adapter"))


def test_adapters_that_cannot_be_measured_are_refused(models, rows, tmp_path):
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(models / "base")
    options = {"target_modules": ["q_proj"], "init_lora_weights": False, "task_type": "CAUSAL_LM"}
    config = peft.LoraConfig(**options, alora_invocation_tokens=[5])
    peft.get_peft_model(model, config).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ConfigError, match=r"activated LoRA .*plain LoRA is accepted"):
        run_probs(settings(tmp_path / "out", rows, models / "base", tmp_path / "adapter"))
    shutil.copytree(models / "base", tmp_path / "both")
    shutil.copy(tmp_path / "adapter/adapter_config.json", tmp_path / "both")
    with pytest.raises(ConfigError, match=r"config.json and adapter_config.json"):
        run_probs(settings(tmp_path / "out", rows, models / "base", tmp_path / "both"))


def test_a_folder_without_weights_is_refused(models, rows, tmp_path):
    shutil.copytree(models / "base", tmp_path / "empty", ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(MissingPrerequisiteError, match=r"weights could not be read .*Use a whole checkpoint"):
        run_probs(settings(tmp_path / "out", rows, models / "base", tmp_path / "empty"))


def test_stored_dtypes_must_agree(models, rows, tmp_path):
    from transformers import AutoModelForCausalLM

    half = tmp_path / "half"
    shutil.copytree(models / "moved", half)
    AutoModelForCausalLM.from_pretrained(half, dtype=torch.bfloat16).save_pretrained(half)
    with pytest.raises(ConfigError, match=r"'base' is stored in float32, 'half' in bfloat16"):
        run_probs(settings(tmp_path / "out", rows, models / "base", half))
    run_probs(settings(tmp_path / "out32", rows, models / "base", half, dtype="float32"))


def test_names_of_checkpoints(tmp_path):
    assert [one.name for one in parse_checkpoints(["a/base", "dft/seed0=b"], [])] == ["base", "dft/seed0"]
    assert [one.path for one in parse_checkpoints(["a", "b"], ["x", "y"])] == ["a", "b"]
    for given, names, words in (
        (["a/x", "b/x"], [], "two checkpoints are called 'x'"),
        (["a", "b"], ["x"], "1 names for 2 checkpoints"),
        (["../..=a"], [], "cannot name"),
    ):
        with pytest.raises(ConfigError, match=words):
            parse_checkpoints(given, names)
    with pytest.raises(ConflictError):
        asked_interface(chat=True, completion=True)


def test_a_missing_checkpoint_or_base(models, rows, tmp_path):
    with pytest.raises(MissingPrerequisiteError, match="hf download"):
        run_probs(settings(tmp_path / "out", rows, tmp_path / "absent"))


@pytest.mark.parametrize(
    ("text", "kind"),
    [(" the", "function word"), (",", "punctuation"), ("\n", "punctuation"), (" 12", "number"), ("clips", "other")],
)
def test_kinds_of_words(text, kind):
    assert kind_of(text) == kind


@pytest.mark.slow
def test_the_real_model_prefers_what_its_lowest_bin_lacks(real_model, data_dir, tmp_path):
    lines = (data_dir / "gsm8k/train.jsonl").read_text().splitlines()[:3]
    data = tmp_path / "gsm8k.jsonl"
    data.write_text(
        "".join(json.dumps({"query": r["question"], "response": r["answer"]}) + "\n" for r in map(json.loads, lines))
    )
    (one,) = run_probs(settings(tmp_path / "out", data, real_model, interface="chat"))["checkpoints"]
    assert 0.3 < one["mean_p"] < 0.8 and one["computed"] == "fused"
    kinds = one["lowest_bin_kinds"]
    assert kinds["number"]["share_of_bin"] < kinds["number"]["share_of_all"]


@pytest.mark.slow
def test_the_command(result, models, rows, tmp_path):
    command = [Path(sys.executable).with_name("dft"), "probs", f"base={models / 'base'}", f"moved={models / 'moved'}"]
    command += ["--data", rows, "--out", tmp_path / "out", "--device", "cpu", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    means = [[one[key] for one in json.loads(done.stdout)["checkpoints"]] for key in ("mean_p", "mean_nll")]
    assert means == [[one[key] for one in result["checkpoints"]] for key in ("mean_p", "mean_nll")]
    assert {"probs.json", "probs.png"} <= {path.name for path in (tmp_path / "out").iterdir()}
    command[2] = tmp_path / "nowhere"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3 and "nowhere" in done.stderr and "Traceback" not in done.stderr
