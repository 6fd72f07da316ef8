"""Tiny checkpoints and rows to measure."""

import json

import torch

from dft_plugin.analysis.probs.checkpoints import Checkpoint
from dft_plugin.analysis.probs.run import ProbsSettings
from tests.integrations.tiny import make_text_model, samples


def make_checkpoints(folder):
    """`base` and `moved`: the same tokenizer, other weights."""
    for name, seed in (("base", 0), ("moved", 1)):
        make_text_model(folder / name, seed=seed)
    return folder


def write_rows(path, count=12):
    rows = [
        {"messages": [{"role": "user", "content": r["question"]}, {"role": "assistant", "content": r["answer"]}]}
        for r in samples(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def settings(out, data, *checkpoints, **options):
    named = tuple(Checkpoint(folder.name, str(folder)) for folder in checkpoints)
    return ProbsSettings(checkpoints=named, data=(data,), out=out, device="cpu", **options)


def by_hand(folder, path):
    """(token id, p) of every target in float64, row by row, without any of the package's code."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    found = []
    for line in path.read_text().splitlines():
        user, assistant = (message["content"] for message in json.loads(line)["messages"])
        prompt = tokenizer(f"<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n")["input_ids"]
        ids = [*prompt, *tokenizer(f"{assistant}<|im_end|>\n")["input_ids"]]
        with torch.no_grad():
            logps = model(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
        targets = range(len(prompt), len(ids))
        found.append([(ids[at], float(logps[at - 1, ids[at]].exp())) for at in targets])
    return found
