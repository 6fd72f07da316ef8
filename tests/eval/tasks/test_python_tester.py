"""Values between a program and its tester, and the comparison of answers."""

import decimal
import fractions
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dft_eval.tasks.code.python_comparison import is_close, is_floats, show
from dft_eval.tasks.code.python_values import LongText, SubFloat, SubInt, decode, encode, encode_briefly

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


def same(one, other):
    return type(one) is type(other) and one == other


@given(PLAIN)
def test_plain_values_come_back(value):
    assert same(decode(json.loads(json.dumps(encode(value)))), value)


@pytest.mark.parametrize(
    "value",
    [10**5000, -(10**5000), 1j, {1, 2}, frozenset({1}), decimal.Decimal("1.5"), fractions.Fraction(1, 3)],
    ids=["huge", "huge-negative", "complex", "set", "frozenset", "decimal", "fraction"],
)
def test_other_values_come_back_equal(value):
    assert decode(json.loads(json.dumps(encode(value)))) == value


def test_a_value_that_claims_to_equal_everything_does_not():
    class Liar(int):
        def __eq__(self, other):
            return True

        __hash__ = None

    came = decode(encode(Liar(3)))
    assert came == 3
    assert came != 4
    assert type(came) is SubInt


def test_what_is_no_plain_value_equals_nothing():
    assert decode(encode(object())) != decode(encode(object()))
    assert decode(encode(iter([1]))) != [1]


def test_a_cycle_ends():
    cycle = []
    cycle.append(cycle)
    decode(encode(cycle))


def test_tolerance_is_that_of_allclose():
    assert is_close(1.0 + 1e-7, 1.0, 1e-6)
    assert not is_close(1.1, 1.0, 1e-6)
    assert is_close([1.0, (2.0,)], [1.0, (2.0,)], 1e-6)
    assert not is_close([1.0], [1.0, 2.0], 1e-6)
    assert is_close(math.inf, math.inf, 1e-6)
    assert not is_close(math.nan, math.nan, 1e-6)
    with pytest.raises(TypeError):
        is_close("1.0", 1.0, 1e-6)


def test_floats_are_what_evalplus_takes_for_floats():
    assert is_floats(1.0)
    assert is_floats([1.0, SubFloat(2.0)])
    assert not is_floats([1.0, 2])
    assert not is_floats([])
    assert not is_floats(1)


def test_huge_integers_are_shown_in_no_time():
    assert show(2**10_000_000) == "an integer of 10000001 bits"


def test_long_texts_are_compared_by_their_digests():
    class Liar(str):
        def __eq__(self, other):
            return True

        def __len__(self):
            return 0

        __hash__ = None

    text = "0 1 \ud800" * 20_000
    brief = decode(encode_briefly(text))
    assert isinstance(brief, LongText)
    assert brief == decode(encode_briefly(text)) == decode(encode(brief)) == decode(encode_briefly(Liar(text)))
    assert brief != decode(encode_briefly(text + " "))
    assert brief != decode(encode_briefly(Liar(text[:-1] + "1")))
    assert brief != text
    assert not is_floats(brief)
    assert decode(encode_briefly("short")) == "short"
