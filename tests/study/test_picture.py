"""The picture of a study says what its numbers say."""

import re

from dft_plugin.study.picture import write_picture


def checkpoint(name, low, nll):
    histogram = [0] * 1000
    histogram[10], histogram[990] = low, 100 - low
    return {"name": name, "histogram": histogram, "mean_nll": nll, "mean_p": 1 - low / 100}


def test_every_arm_is_drawn_and_nothing_is_loaded(tmp_path):
    checkpoints = [checkpoint("base", 50, 2.0), checkpoint("sft/seed0", 20, 1.0), checkpoint("sft/seed1", 30, 1.1)]
    write_picture({"num_tokens": 1234, "checkpoints": checkpoints}, tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    assert {"base", "sft"} <= set(re.findall(r">([a-z]+)</text>", text)) and "1,234 held-out tokens" in text
    assert not re.findall(r"(?:href|src)=\"(?!#)", text)
    write_picture({"num_tokens": 1234, "checkpoints": checkpoints}, tmp_path / "b.svg")
    assert (tmp_path / "b.svg").read_bytes() == (tmp_path / "a.svg").read_bytes()
