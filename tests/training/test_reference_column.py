"""The column of a reference: numbers kept to the bit, and every difference of a row told from another one."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dft_plugin.errors import InputError
from dft_plugin.training.reference_column import (
    EncodedSample,
    Reference,
    make_reference,
    pack_logps,
    settings_in_words,
    unpack_logps,
)

WORDS = {"model": "m", "tokenizer": "t", "made_with": "a framework, template=x"}
SAMPLE = EncodedSample([5, 6, 7, 8], [-100, -100, 7, 8])


@given(st.lists(st.floats(-127, 0, width=32)))
def test_packed_numbers_come_back_to_the_bit(logps):
    assert unpack_logps(pack_logps(logps)) == torch.tensor(logps, dtype=torch.float32).tolist()


@pytest.mark.parametrize(
    "other",
    [
        EncodedSample([9, 6, 7, 8], [-100, -100, 7, 8]),  # another prompt, the same trained tokens
        EncodedSample([5, 6, 7, 9], [-100, -100, 7, 9]),
        EncodedSample([5, 6, 7, 8], [-100, 6, 7, 8]),
        EncodedSample([5, 6, 7, 8], [-100, -100, -100, 8]),
        EncodedSample([6, 7, 8], [-100, 7, 8]),
        EncodedSample([5, 6, 7, 8, 9], [-100, -100, 7, 8, -100]),
        EncodedSample([5, 6, 7, 8], [-100, -100, 7, 8], [b"picture"]),
    ],
)
def test_every_difference_of_the_tokens_is_one(other):
    reference = make_reference(SAMPLE, [-1.5, -0.25], **WORDS)
    assert reference.logps_of(SAMPLE, WORDS["made_with"]) == [-1.5, -0.25]
    with pytest.raises(InputError, match="other tokens .* the row itself was changed"):
        reference.logps_of(other, WORDS["made_with"])
    with pytest.raises(InputError, match="made with .*template=x.* the run has .*template=y"):
        reference.logps_of(other, "a framework, template=y")


def test_pictures_are_told_by_their_content(tmp_path):
    from PIL import Image

    one, same, other = (tmp_path / f"{name}.png" for name in ("one", "same", "other"))
    Image.new("RGB", (4, 4), "red").save(one)
    Image.new("RGB", (4, 4), "red").save(same)
    Image.new("RGB", (4, 4), "blue").save(other)

    def fingerprint(*media):
        return EncodedSample([1], [1], media).fingerprint()

    assert fingerprint(str(one)) == fingerprint(same) == fingerprint({"bytes": None, "path": str(one)})
    assert fingerprint(str(one)) == fingerprint({"bytes": one.read_bytes(), "path": None})
    assert fingerprint(str(one)) != fingerprint(str(other))
    assert fingerprint(str(one), str(other)) != fingerprint(str(other), str(one))
    assert fingerprint("https://a.example/1.png") != fingerprint("https://a.example/2.png")
    assert fingerprint(Image.open(one)) == fingerprint(Image.open(same)) != fingerprint(Image.open(other))
    with pytest.raises(InputError, match="a medium of type int"):
        fingerprint(3)


@pytest.mark.parametrize("logps", [[-1.0], [-1.0, -2.0, -3.0], [-1.0, -200.0], [-1.0, math.nan], [-math.inf, -1.0]])
def test_values_that_cannot_be_carried_are_refused(logps):
    with pytest.raises(InputError, match="reference"):
        make_reference(SAMPLE, logps, **WORDS)


@pytest.mark.parametrize("value", [None, {}, "no JSON", 3, {"model": "m", "logps": "AAAA"}, {**WORDS, "logps": 3.0}])
def test_what_is_no_column_is_refused(value):
    with pytest.raises(InputError, match="`dft reference` makes"):
        Reference.read(value)


def test_a_column_is_read_as_mapping_and_as_text():
    reference = make_reference(SAMPLE, [-1.5, -0.25], **WORDS)
    assert Reference.read(reference.column()) == Reference.read(json.dumps(reference.column())) == reference


def test_a_dropped_row_has_no_numbers():
    with pytest.raises(InputError, match="dropped when the reference was made .too long"):
        Reference(**WORDS, skipped="too long").logps_of(SAMPLE, WORDS["made_with"])


def test_settings_in_words():
    values = {"template": None, "cutoff_len": 8, "thinking": False, "history": False}
    words = settings_in_words("a framework", values, {"thinking": True, "history": False})
    assert words == "a framework, template=None, cutoff_len=8, thinking=False"
