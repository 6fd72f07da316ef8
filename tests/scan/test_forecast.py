"""Verdicts on made-up sums, how sure they are, and settings that can be pasted."""

import json
import shlex

import numpy as np
import pytest
import yaml

from dft_plugin.analysis.target_classes import SUMS, TARGET_CLASSES
from dft_plugin.config import LossConfig
from dft_plugin.errors import InputError
from dft_plugin.scan import forecast as scan_forecast


def samples(*, p, eos_p=0.9, template_p=None, low_share=0.0, count=100, tokens=20, spread=0.0):
    """`count` samples of 20 content tokens of about that mean p and an end token."""
    rng = np.random.default_rng(0)
    sums = np.zeros((count, len(TARGET_CLASSES), len(SUMS)))
    ps = np.clip(p + spread * rng.standard_normal(count), 0, 1)
    for name, number, mean_p in (("other", tokens, ps), ("eos", 1, eos_p), ("template", 2, template_p)):
        if mean_p is not None:
            row = sums[:, TARGET_CLASSES.index(name)]
            row[:, SUMS.index("num_tokens")] = number
            row[:, SUMS.index("sum_p")] = number * mean_p
            row[:, SUMS.index("num_low")] = low_share * number
    return sums


def forecast(samples, *, seed, ends=("eos",)):
    return scan_forecast.forecast(samples, seed=seed, end_tokens={name: list(ends) for name in samples})


@pytest.mark.parametrize(
    ("options", "verdict", "loss_config"),
    [
        ({"p": 0.8}, "dft", {}),
        ({"p": 0.8, "low_share": 0.3}, "mix", {"alpha": 0.7}),
        ({"p": 0.5}, "mix", {"alpha": 0.7}),
        ({"p": 0.2}, "sft", {}),
        ({"p": 0.5, "low_share": 0.5}, "sft", {}),
        ({"p": 0.8, "eos_p": 0.01}, "dft", {"full_weight_tokens": ["eos"]}),
        ({"p": 0.8, "eos_p": None}, "dft", {}),
        ({"p": 0.8, "template_p": 0.01}, "dft", {"floor": 0.1}),
        ({"p": 0.2, "eos_p": 0.01}, "sft", {}),
    ],
)
def test_one_dataset(options, verdict, loss_config):
    overall, each = forecast({"d": samples(**options)}, seed=0)
    assert overall.verdict == each["d"].verdict == verdict
    assert overall.suggested.loss_type == verdict and overall.suggested.loss_config == loss_config
    assert overall.confidence == "high" and overall.stability == 1.0
    assert "2510.00526" in overall.record()["heuristic"] and "d: mean p" in overall.reason


def test_datasets_that_differ_are_routed():
    overall, each = forecast({"sums": samples(p=0.9, eos_p=0.01), "facts": samples(p=0.2)}, seed=0)
    assert overall.verdict == "route" and [each[name].verdict for name in each] == ["dft", "sft"]
    assert overall.suggested.loss_config == {
        "route": {"by": "dataset", "rules": {"sums": "dft", "facts": "sft"}},
        "full_weight_tokens": ["eos"],
    }
    record = overall.record()
    pasted = yaml.safe_load(record["yaml"])
    assert pasted == {"loss_type": "dft", "loss_config": overall.suggested.loss_config}
    words = shlex.split(record["ms_swift"])
    assert words[:2] == ["--loss_type", "dft"] and json.loads(words[3]) == overall.suggested.loss_config


def test_a_route_without_dft_names_one_of_its_objectives():
    overall, _ = forecast({"middle": samples(p=0.5), "facts": samples(p=0.2)}, seed=0)
    assert overall.verdict == "route" and overall.suggested.loss_type == "mix"


def test_an_end_token_that_is_not_the_tokenizers_own_is_named():
    overall, _ = forecast({"d": samples(p=0.8, eos_p=0.01)}, seed=0, ends=["<|im_end|>"])
    assert overall.suggested.loss_config == {"full_weight_tokens": ["<|im_end|>"]}


def test_what_the_trainer_accepts():
    for p in (0.1, 0.5, 0.9):
        suggested = forecast({"d": samples(p=p)}, seed=0)[0].suggested
        LossConfig.parse(suggested.loss_type, suggested.loss_config)


def test_few_samples_are_never_sure():
    overall, _ = forecast({"d": samples(p=0.8, count=29)}, seed=0)
    assert overall.stability == 1.0 and overall.confidence == "low"
    assert "Fewer than 30" in overall.record()["confidence_reason"]


def test_near_a_bound_it_is_not_sure():
    overall, _ = forecast({"d": samples(p=0.65, spread=0.2)}, seed=0)
    assert 0.2 < overall.stability < 0.8 and overall.confidence == "low"
    again, _ = forecast({"d": samples(p=0.65, spread=0.2)}, seed=0)
    assert again == overall


def test_nothing_but_format_is_refused():
    with pytest.raises(InputError, match="nothing but end and template tokens"):
        forecast({"d": samples(p=0.5, tokens=0)}, seed=0)
