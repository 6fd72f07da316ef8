"""What a scan says of a model that has learned to add: additions speak for DFT, new facts for SFT, both for a route."""

import json
import random

import pytest
import torch

from dft_eval.tasks.toy import demonstrate, demonstrate_with_slips, invent_facts, split_additions
from dft_plugin.demo.tiny_model import write_tiny_model
from dft_plugin.scan.run import ScanSettings, run_scan

BATCH = 32


@pytest.mark.slow
def test_additions_facts_and_both(tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    rng = random.Random(0)
    known, held_out = split_additions(300, rng)
    old_facts = invent_facts(1000, rng)
    new_facts = invent_facts(100, rng, known={fact.prompt for fact in old_facts})
    write_tiny_model(tmp_path / "model", 0)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    train(model, tokenizer, [demonstrate(problem) for problem in (*known, *old_facts)], rng, num_steps=700)
    model.save_pretrained(tmp_path / "model")
    files = {
        "additions": demonstrate_with_slips(held_out, 0.3, rng),
        "facts": [demonstrate(fact) for fact in new_facts],
    }
    for name, rows in files.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row.messages()) + "\n" for row in rows))

    def scan(*names):
        data = tuple(tmp_path / f"{name}.jsonl" for name in names)
        out = tmp_path / "_".join(names)
        return run_scan(ScanSettings(str(tmp_path / "model"), data, out, device="cpu", batch_size=16))

    both = scan("additions", "facts")
    for name in files:
        row = both["datasets"][name]
        alone = scan(name)
        assert alone["forecast"]["verdict"] == row["forecast"]["verdict"]
        assert alone["total"]["nll"] == pytest.approx(row["nll"], rel=1e-6)  # other neighbours in the batch
    # knowing how an answer ends is not knowing the answer: with the end tokens the facts would not look weak
    assert both["datasets"]["facts"]["content"]["mean_p"] < 0.2 < 0.35 < both["datasets"]["facts"]["mean_p"]
    assert both["datasets"]["additions"]["forecast"]["verdict"] == "dft"
    assert both["datasets"]["facts"]["forecast"]["verdict"] == "sft"
    assert both["forecast"]["verdict"] == "route" and both["forecast"]["confidence"] == "high"
    assert both["forecast"]["loss_config"]["route"] == {"by": "dataset", "rules": {"additions": "dft", "facts": "sft"}}


def train(model, tokenizer, rows, rng, *, num_steps):
    """Plain training, the loss on the response."""
    encoded = []
    for row in rows:
        messages = row.messages()["messages"]
        prompt, whole = (
            tokenizer.apply_chat_template(part, tokenize=False, add_generation_prompt=is_prompt)
            for part, is_prompt in ((messages[:1], True), (messages, False))
        )
        ids = tokenizer(whole)["input_ids"]
        start = len(tokenizer(prompt)["input_ids"])
        encoded.append((ids, [-100] * start + ids[start:]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, num_steps)
    model.train()
    for _ in range(num_steps):
        batch = rng.sample(encoded, BATCH)
        longest = max(len(ids) for ids, _ in batch)
        ids, labels = (
            torch.tensor([row[part] + [fill] * (longest - len(row[part])) for row in batch])
            for part, fill in ((0, 0), (1, -100))
        )
        model(input_ids=ids, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval()
