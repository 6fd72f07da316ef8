"""A scan of a real tiny model: its numbers against plain float64 teacher forcing, resuming, refusals."""

import dataclasses
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from dft_plugin.analysis import target_logps
from dft_plugin.analysis.row_scorer import RowScorer
from dft_plugin.encoding.datasets import draw, read_datasets
from dft_plugin.errors import ConfigError, InputError, MissingPrerequisiteError
from dft_plugin.scan.run import ScanSettings, run_scan
from dft_plugin.scan.tables import print_scan
from dft_plugin.training.loss_head import HeadChoice
from tests.integrations.tiny import make_text_model, samples

DFT = Path(sys.executable).with_name("dft")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_text_model(tmp_path_factory.mktemp("scan") / "model", initializer_range=0.1)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def chats(tmp_path):
    rows = [
        {"messages": [{"role": "user", "content": r["question"]}, {"role": "assistant", "content": r["answer"]}]}
        for r in samples(12)
    ]
    return write(tmp_path / "chats.jsonl", rows)


@pytest.fixture
def texts(tmp_path):
    return write(tmp_path / "texts.jsonl", [{"text": r["answer"]} for r in samples(5, seed=1)])


def settings(model, *data, out, **options):
    return ScanSettings(model=str(model), data=data, out=out, device="cpu", **options)


def teacher_forced(model, path, prompt_of, response_of):
    """p of every target of every row in float64, without any of the package's code."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    plain = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64).eval()
    probs, classes = [], []
    for line in path.read_text().splitlines():
        row = json.loads(line)
        prompt, response = (tokenizer(of(row))["input_ids"] for of in (prompt_of, response_of))
        ids = torch.tensor([[*prompt, *response]])
        with torch.no_grad():
            p = plain(input_ids=ids).logits[0, :-1].softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
        first = max(len(prompt), 1) - 1
        probs += p[first:].tolist()
        classes += [tokenizer.convert_ids_to_tokens(token) for token in ids[0, 1 + first :].tolist()]
    return torch.tensor(probs, dtype=torch.float64), classes


def chat_prompt(row):
    return f"<|im_start|>user\n{row['messages'][0]['content']}<|im_end|>\n<|im_start|>assistant\n"


def chat_response(row):
    return f"{row['messages'][1]['content']}<|im_end|>\n"


def check_numbers(summary, p):
    assert summary["num_tokens"] == len(p)
    expected = {
        "mean_p": p.mean(),
        "nll": -p.log().mean(),
        "share_p_below_0.05": (p < 0.05).double().mean(),
        "share_p_above_0.95": (p > 0.95).double().mean(),
        "effective_tokens": p.sum() ** 2 / (len(p) * (p * p).sum()),
    }
    for key, value in expected.items():
        assert summary[key] == pytest.approx(float(value), rel=2e-5), key
    assert summary["histogram"] == torch.histc(p, 20, 0, 1).long().tolist()


def test_numbers_of_a_chat(model, chats, tmp_path):
    result = run_scan(settings(model, chats, out=tmp_path / "out", batch_size=5))
    p, tokens = teacher_forced(model, chats, chat_prompt, chat_response)
    summary = result["datasets"]["chats"]
    check_numbers(summary, p)
    check_numbers(result["total"], p)
    is_end = torch.tensor([token == "<|im_end|>" for token in tokens])
    is_digit = torch.tensor([token.isdigit() for token in tokens])
    is_after = torch.tensor([False, *is_end.tolist()[:-1]])
    assert summary["eos_mean_p"] == pytest.approx(float(p[is_end].mean()), rel=2e-5)
    assert summary["classes"]["digits"]["mean_p"] == pytest.approx(float(p[is_digit].mean()), rel=2e-5)
    assert summary["classes"]["after_end"]["num_tokens"] == 12
    assert summary["content"]["mean_p"] == pytest.approx(float(p[~is_end & ~is_after].mean()), rel=2e-5)
    assert result["measured"] == {"path": "fused", "path_reason": "", "dtype": "float32"}
    assert result["forecast"]["verdict"] == "sft" and result["forecast"]["confidence"] == "low"  # 12 samples
    assert json.loads((tmp_path / "out/scan.json").read_text()) == result
    assert (tmp_path / "out/scan.png").read_bytes().startswith(b"\x89PNG")
    console = Console(file=io.StringIO(), width=80)
    print_scan(result, console)
    text = console.file.getvalue()
    assert "loss_type: sft" in text and "heuristic" in text and "sft (low)" in text and "fused path" in text


def test_numbers_of_plain_text(model, texts, tmp_path):
    result = run_scan(settings(model, texts, out=tmp_path / "out", interface="completion"))
    p, _ = teacher_forced(model, texts, lambda row: "", lambda row: row["text"] + "<|im_end|>")
    check_numbers(result["datasets"]["texts"], p)


def test_the_logits_path_says_so_and_agrees(model, chats, tmp_path, monkeypatch):
    fused = run_scan(settings(model, chats, out=tmp_path / "fused"))
    monkeypatch.setattr(target_logps, "find_head", lambda model: HeadChoice(None, "a test"))
    plain = run_scan(settings(model, chats, out=tmp_path / "plain"))
    assert plain["measured"]["path"] == "logits" and plain["measured"]["path_reason"] == "a test"
    assert plain["total"]["nll"] == pytest.approx(fused["total"]["nll"], rel=1e-6)
    assert plain["total"]["histogram"] == fused["total"]["histogram"]


class Interrupted(BaseException):
    pass


def test_an_interrupted_scan_resumes_to_the_same_result(model, chats, tmp_path, monkeypatch, caplog):
    whole = run_scan(settings(model, chats, out=tmp_path / "whole"))
    nlls, calls = RowScorer.nlls, []

    def stop_at_the_fifth(self, batch):
        calls.append(len(batch))
        if len(calls) == 5:
            raise Interrupted
        return nlls(self, batch)

    monkeypatch.setattr(RowScorer, "nlls", stop_at_the_fifth)
    with pytest.raises(Interrupted):
        run_scan(settings(model, chats, out=tmp_path / "out"))
    assert json.loads((tmp_path / "out/scan.json").read_text())["status"] == "running"
    records = tmp_path / "out/scan.jsonl"
    assert len(records.read_text().splitlines()) == 4
    records.write_bytes(records.read_bytes()[:-20])  # cut off while it was written
    calls.clear()
    calls.extend([0] * 5)
    resumed = run_scan(settings(model, chats, out=tmp_path / "out"))
    assert len(calls) - 5 == 12 - 3 and "truncated last line" in caplog.text
    for key in ("total", "datasets", "forecast", "measured"):
        assert resumed[key] == whole[key]
    assert run_scan(settings(model, chats, out=tmp_path / "out")) == resumed and len(calls) - 5 == 12 - 3


def test_a_changed_scan_is_refused(model, chats, tmp_path):
    first = settings(model, chats, out=tmp_path / "out", samples=3)
    run_scan(first)
    run_scan(dataclasses.replace(first, batch_size=2))  # decides nothing
    with pytest.raises(ConfigError, match=r"scan\.json differs in: samples 3 -> 4; seed 0 -> 1; use a new --out"):
        run_scan(dataclasses.replace(first, samples=4, seed=1))
    chats.write_text(chats.read_text() + chats.read_text())
    with pytest.raises(ConfigError, match=r"data\.chats\.sha256"):
        run_scan(first)
    (tmp_path / "out/scan.json").unlink()
    with pytest.raises(ConfigError, match=r"without scan\.json"):
        run_scan(first)


def test_the_sample_is_seeded_and_without_replacement(tmp_path):
    (dataset,) = read_datasets([write(tmp_path / "d.jsonl", [{"text": str(i)} for i in range(50)])])
    chosen = [row.text for row in draw(dataset, 20, 0)]
    assert chosen == [row.text for row in draw(dataset, 20, 0)] != [row.text for row in draw(dataset, 20, 1)]
    assert len(set(chosen)) == 20 and len(draw(dataset, 99, 0)) == 50


def test_refusals(model, chats, texts, tmp_path):
    with pytest.raises(MissingPrerequisiteError, match="hf download"):
        run_scan(settings(tmp_path / "no_model", chats, out=tmp_path / "a"))
    with pytest.raises(MissingPrerequisiteError, match="no config"):
        run_scan(settings(tmp_path, chats, out=tmp_path / "a"))
    with pytest.raises(ConfigError, match="not conversations; say how"):
        run_scan(settings(model, texts, out=tmp_path / "a"))
    with pytest.raises(InputError, match="no response of its 12 samples is left within --max-length 3"):
        run_scan(settings(model, chats, out=tmp_path / "b", max_length=3))
    pictures = write(tmp_path / "p.jsonl", [{"query": "<image>q", "response": "a", "images": ["x.png"]}])
    with pytest.raises(ConfigError, match="takes none"):
        run_scan(settings(model, pictures, out=tmp_path / "c", interface="chat"))


def test_missing_weights_are_refused(chats, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = make_text_model(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lacks weights .*lm_head"):
        run_scan(settings(folder, chats, out=tmp_path / "out"))


@pytest.mark.slow
def test_the_command(model, chats, tmp_path):
    def dft_scan(*arguments):
        command = [str(DFT), "scan", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    done = dft_scan(model, chats, "--device", "cpu", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((tmp_path / "scan_out/scan.json").read_text())
    assert "%|" not in done.stderr
    assert dft_scan(model, chats, "--device", "cpu", "--seed", "1").returncode == 2
    assert dft_scan(model, tmp_path / "absent.json").returncode == 3
