"""Statistics between two logs: by class and route name, over modes and real ranks."""

import math

import pytest
import torch

from dft_plugin import logits_loss
from dft_plugin.core.token_classes import TokenClasses
from dft_plugin.training.gathered_stats import GatheredStats
from tests.integrations.forked_ranks import free_port

CLASSES = TokenClasses(torch.tensor([0, 5, 1]))  # token 0 ends a turn, 1 is a word, 2 a template marker
FACTS, OCR = 70_001, 12


def call(labels, logits=None):
    labels = torch.tensor(labels)
    logits = torch.zeros(*labels.shape, 3) if logits is None else logits
    return logits_loss(logits, labels, objective="dft"), labels


def test_names_and_modes():
    gathered = GatheredStats(CLASSES, {FACTS: "facts", OCR: "ocr"}, has_default=True)
    output, labels = call([[1, 1, 0], [1, 2, -100]])
    routes = torch.tensor([[0, FACTS, FACTS], [5, 5, 0]])
    gathered.add("train", output, labels, routes=routes)
    gathered.add("train", output, labels, routes=routes)
    gathered.add("eval", output, labels)
    window = gathered.pop("train")
    scalars, record = window.scalars(), window.record()
    assert scalars["p/eos"] == pytest.approx(1 / 3, rel=1e-6) and scalars["weight/template"] == pytest.approx(1 / 3)
    assert scalars["nll/route_facts"] == pytest.approx(math.log(3), rel=1e-6)
    assert scalars["tokens/route_facts"] == 4 and scalars["tokens/route_default"] == 2
    assert not [key for key in scalars if "digits" in key or "ocr" in key]
    assert record["tokens"] == 6 and record["means"]["weight"] == pytest.approx(1 / 3)
    assert set(record["classes"]) == {"eos", "template", "other"} and set(record["routes"]) == {"facts", "default"}
    assert sum(record["weight_histogram"]) == 6 and record["weight_histogram"][6] == 6
    assert gathered.pop("eval").record()["tokens"] == 3 and gathered.pop("train").record()["means"] == {}


def test_a_source_without_a_rule_is_never_counted_under_another():
    gathered = GatheredStats(None, {FACTS: "facts"})
    output, labels = call([[1, 1]])
    with pytest.raises((IndexError, RuntimeError), match="out of"):
        gathered.add("train", output, labels, routes=torch.tensor([[9, 9]]))


def test_without_tokenizer_or_routes():
    gathered = GatheredStats()
    gathered.add("train", *call([[1, 1]]))
    scalars = gathered.pop("train").scalars()
    assert "low_weight_tokens" in scalars and not [key for key in scalars if "/" in key]


def test_discard():
    gathered = GatheredStats()
    gathered.add("eval", *call([[1, 1]]))
    gathered.discard("eval")
    assert gathered.pop("eval").scalars() == {}


def _rank(rank, port, folder):
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    gathered = GatheredStats(CLASSES, {FACTS: "facts"})
    if rank == 0:  # the other rank has nothing to add
        output, labels = call([[1, 1, 0]])
        gathered.add("train", output, labels, routes=torch.full((1, 3), FACTS))
    window = gathered.pop("train")
    torch.save(window.scalars(), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_ranks_see_the_same_sums(tmp_path):
    torch.multiprocessing.spawn(_rank, (free_port(), tmp_path), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first == second and first["tokens/route_facts"] == 2 and first["p/eos"] == pytest.approx(1 / 3)
