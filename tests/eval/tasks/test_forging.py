"""Programs that do not solve the problem and want to pass: none does, by either rule."""

import pytest

from dft_eval.records.schema import Answer

pytestmark = pytest.mark.slow

PYTHON = {
    "exit": "    import os; os._exit(0)\n",
    "system-exit": "    raise SystemExit(0)\n",
    "top-level-exit": "    return False\nimport os\nos._exit(0)\n",
    "always-equal": "    class A:\n        def __eq__(self, o): return True\n        def __bool__(self): return True\n"
    "    return A()\n",
    "always-equal-float": "    class A(float):\n        def __eq__(self, o): return True\n    return A(0)\n",
    "prints": '    print(\'passed\'); print(\'{"nonce": "0", "verdicts": {"tests": "passed"}}\')\n    import os; os._exit(0)\n',  # noqa: E501
    "writes-every-fd": "    import os\n    for fd in range(64):\n        try: os.write(fd, b'\"passed\"\\n[true]\\n')\n"
    "        except OSError: pass\n    os._exit(0)\n",
    "frames": "    import sys, gc\n    f = sys._getframe()\n    while f:\n        f.f_globals['run_tests'] = lambda *a: 'passed'\n"  # noqa: E501
    "        f.f_globals['check'] = lambda *a: None\n        f = f.f_back\n"
    "    for o in gc.get_objects():\n        if isinstance(o, dict) and 'nonce' in o: print(o)\n    return None\n",
    "kills-the-tester": "    import os\n    os.kill(os.getppid(), 9)\n",
    "reads-the-tester": "    import os\n    for path in (f'/proc/{os.getppid()}/mem', f'/proc/{os.getppid()}/fd/0', '/proc/1/mem'):\n"  # noqa: E501
    "        try: open(path, 'rb').read(10); os._exit(0)\n        except OSError: pass\n    return None\n",
    "claims-a-digest": "    from dft_eval.tasks.code.python_values import LongText\n    class A(LongText):\n"
    "        def __eq__(self, o): return True\n    return A(1, '')\n",
    "replaces-json": "    import json, builtins\n    json.dumps = lambda *a, **k: '[true]'\n    return None\n",
}
_WRITES_AT_IMPORT = (
    "    return None\nimport os\nfor fd in range(3, 64):\n"
    "    try: os.write(fd, {!r})\n    except OSError: pass\nos._exit(0)\n"
)
for _name, _line in (
    ("verdict-with-a-text", b'"passed: x"\n'),
    ("verdict", b'"passed"\n'),
    ("verdict-pair", b'["passed", ""]\n'),
    ("failure-named-passed", b'["failed", "passed", ""]\n'),
    ("failure-of-no-text", b'["failed", ["passed"], {}]\n'),
    ("ready", b'["ready"]\n'),
    ("nothing", b"[]\n"),
    ("number", b"1\n"),
):
    PYTHON[f"at-import-{_name}"] = _WRITES_AT_IMPORT.format(_line)
DUMP_SELF = {
    "js": "require('fs').writeSync(1, require('fs').readFileSync(__filename)); process.exit(0);",
    "php": "readfile(__FILE__); exit(0);",
    "sh": "cat test.sh; kill -9 $$; exit 0",
}
EXITS = {
    "js": [
        "process.exit(0);",
        "console.log('passed'); process.exit(0);",
        "require('node:assert').deepEqual = () => {};",
    ],
    "ts": ["(globalThis as any).process.exit(0);"],
    "php": ["exit(0);", "echo 'passed'; die();"],
    "sh": ["exit 0", "kill -TERM $$", "trap 'exit 0' ERR EXIT; return 1"],
    "cpp": ["exit(0);", "_Exit(0);", "quick_exit(0);", 'puts("passed"); fflush(stdout); _Exit(0);'],
    "java": ["if (true) System.exit(0);", "Runtime.getRuntime().halt(0);"],
    "cs": ["Environment.Exit(0);", 'Console.WriteLine("passed"); Environment.Exit(0);'],
}
RETURNS = {"cpp": "return -1;", "java": "return -1;", "cs": "return -1;", "ts": "return -1;", "js": "return -1;"}


@pytest.mark.parametrize("attack", PYTHON)
@pytest.mark.parametrize("name", ["humaneval", "humaneval_plus", "multipl_e/python"])
def test_python_verdicts_cannot_be_forged(backend, name, attack, open_code_task):
    task = open_code_task(name)
    sample_id = next(iter(task.problems))
    score = task.score(Answer(sample_id, completion=PYTHON[attack]))
    assert score.passed is False, score
    assert "ok" not in score.detail["verdicts"].values()


@pytest.mark.parametrize("language", EXITS)
def test_early_exits_pass_by_no_rule(backend, language, open_code_task):
    if (backend, language) == ("landlock", "cs"):
        pytest.skip("C# is refused there")
    task = open_code_task(f"multipl_e/{language}")
    attacks = EXITS[language] + ([DUMP_SELF[language]] if language in DUMP_SELF else [])
    for attack in attacks:
        score = task.score(Answer("HumanEval_23_strlen", completion=f"    {attack}\n    {RETURNS.get(language, '')}\n"
                                  + ("}\n" if language in ("js", "ts", "php") else "")))  # fmt: skip
        assert score.passed is False, (attack, score)
        assert score.detail["verdicts"]["qwen-base"] != "ok", (attack, score)
