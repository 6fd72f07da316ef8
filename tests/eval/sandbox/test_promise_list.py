"""The list of promises and its suite belong together."""

import re
from pathlib import Path

from dft_eval.sandbox.promises import PROMISES


def test_each_promise_has_a_test_and_each_test_a_promise():
    sources = [path.read_text() for path in Path(__file__).parent.glob("test_*.py")]
    marked = {
        name
        for text in sources
        for marks in re.findall(r"@pytest\.mark\.promise\((.*?)\)", text)
        for name in re.findall(r'"([^"]+)"', marks)
    }
    assert marked == {promise.name for promise in PROMISES}
