"""The checker that stays: the compiler's own verdicts, and no program harms another's."""

import pytest

from dft_eval.languages import typescript_checker
from dft_eval.languages.base import find_binary
from dft_eval.languages.typescript import TypeScript, translate, translate_alone
from dft_eval.languages.typescript_checker import _checkers, close_checkers
from dft_eval.sandbox.choose import open_sandbox
from dft_eval.sandbox.program import Limits, Outcome
from tests.conftest import require

pytestmark = pytest.mark.slow

GOOD = b"function f(x: number): number { return x ** 2; }\nlet [a, b] = [1, 2];\nfor (const c of 'ab') f(a + b);\n"
PROGRAMS = {
    "good": GOOD,
    "type-error": b"const x: number = 'a';\n",
    "syntax-error": b"function f( {\n",
    "breaks-the-library": b"interface EventTarget { nodeName: number }\n",
    "adds-to-the-library": b"interface Array<T> { last(): T }\n",
    "uses-what-another-added": b"const x = [1].last();\n",
    "module": b"import * as fs from 'fs';\nexport const x = 1;\n",
    "reads-a-file": b'/// <reference path="/etc/hostname" />\nconst x = 1;\n',
    "invalid-utf-8": b"const x = '\xff\xfe';\n",
    "empty": b"",
}
BOMB = b"type B<T> = T extends [infer H, ...infer R] ? [[H, B<R>], ...B<R>] : [];\n" + b"".join(
    b"let x%d: B<[%s]> = 1;\n" % (i, b",".join(b"%d" % (i * 45 + j) for j in range(45))) for i in range(1000)
)


@pytest.fixture(params=["bubblewrap", "landlock"])
def sandbox(request):
    require(not TypeScript().missing() and find_binary("node") is not None, "make toolchains (ts)")
    yield open_sandbox(request.param)
    close_checkers()


def told(result):
    if isinstance(result, Outcome):
        return result.status, result.returncode, (result.stdout or result.stderr).decode()
    return result


@pytest.mark.parametrize("mode", ["es2015", "defaults"])
def test_it_says_what_a_fresh_compiler_says(sandbox, mode):
    if sandbox.name == "landlock":
        pytest.skip("the same compiler")
    for name, source in PROGRAMS.items():
        assert told(translate(source, mode, sandbox)) == told(translate_alone(source, mode, sandbox)), name
    (checker,) = _checkers.values()
    assert checker.num_programs == len(PROGRAMS)


def test_a_killed_checker_is_replaced(sandbox):
    before = translate(GOOD, "es2015", sandbox)
    (checker,) = _checkers.values()
    checker.close()
    assert translate(GOOD, "es2015", sandbox) == before
    assert not _checkers
    assert translate(GOOD, "es2015", sandbox) == before
    assert list(_checkers.values()) != [checker]


def test_a_check_that_does_not_end_is_ended_and_harms_no_other(sandbox, monkeypatch):
    monkeypatch.setattr(typescript_checker, "COMPILE_LIMITS", Limits(cpu_s=3, wall_s=60, memory_mib=3072))
    monkeypatch.setattr("dft_eval.languages.typescript.COMPILE_LIMITS", Limits(cpu_s=3, wall_s=60, memory_mib=3072))
    before = translate(GOOD, "es2015", sandbox)
    outcome = translate(BOMB, "es2015", sandbox)
    assert isinstance(outcome, Outcome)
    assert outcome.status in ("timeout", "oom")
    assert translate(GOOD, "es2015", sandbox) == before
