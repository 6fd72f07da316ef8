"""Mathematics on the real files and the real grader: references, tricky pairs, pathological answers, threads."""

import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from dft_eval.errors import ConfigError
from dft_eval.records.schema import Answer
from dft_eval.report.compare import build_comparison
from dft_eval.run.local_pool import LocalPool
from dft_eval.run.score_answer import score_answer
from dft_eval.run.score_run import ScoreRequest, score_file
from dft_eval.tasks.catalog import TASKS
from dft_eval.tasks.math import grader
from dft_eval.tasks.math.golds import last_box, normalise_answer, read_gold
from dft_eval.tasks.math.grader import GraderError, describe_grader, grade_response
from dft_eval.tasks.math.worker import CPU_LIMIT_S, extract_answer
from tests.eval.tasks.math_pairs import KNOWN_FALSE_NEGATIVES, PAIRS
from tests.eval.tasks.math_two_gradings import TWO_GRADINGS

NAMES = {"math500": 500, "minerva_math": 272, "olympiadbench": 675, "aime24": 30, "amc23": 40}


@pytest.fixture(scope="module")
def tasks(data_dir):
    return {name: TASKS[name](data_dir, "qwen-boxed") for name in NAMES}


def judge(task, line, text, **fields):
    return score_answer(task, Answer(f"{task.name}/{line}", completion=text, **fields))


@pytest.mark.parametrize("name", NAMES)
def test_prompts(tasks, data_dir, name):
    samples = tasks[name].samples()
    assert [s.sample_id for s in samples] == [f"{name}/{line}" for line in range(NAMES[name])]
    assert all(
        s.prompt.startswith("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n")
        and s.prompt.endswith("put your final answer within \\boxed{}.<|im_end|>\n<|im_start|>assistant\n")
        for s in samples
    )
    bare = TASKS[name](data_dir, "bare").samples()
    assert all(b.prompt and f"user\n{b.prompt}\nPlease" in s.prompt for b, s in zip(bare, samples, strict=True))
    assert TASKS[name](data_dir, "qwen-compat").samples() == samples
    assert TASKS[name](data_dir, "bare-chat").samples()[0].prompt == ({"role": "user", "content": bare[0].prompt},)


def test_a_tricky_pair_is_judged_right():
    assert len(PAIRS) >= 80 and len(set(PAIRS)) == len(PAIRS)
    wrong = []
    for index, (gold, answer, is_right) in enumerate(PAIRS):
        found = grade_response(normalise_answer(gold), f"First \\boxed{{0}}. Thus \\boxed{{{answer}}}.")["status"]
        if (found == "ok") != is_right:
            wrong.append((index, gold, answer, found))
    assert [entry for entry in wrong if entry[3] == "ok"] == []  # no false positive
    assert {entry[0] for entry in wrong} == KNOWN_FALSE_NEGATIVES


def test_a_text_that_is_no_expression_says_that_it_was_compared_as_text(tasks):
    gold = tasks["olympiadbench"].golds["olympiadbench/73"]
    verdicts = {text: grade_response(gold, f"\\boxed{{{text}}}") for text in (gold, "0", "b")}
    assert [verdict["status"] for verdict in verdicts.values()] == ["ok", "wrong", "wrong"]
    assert all(v["message"].startswith("the reference cannot be read as an exp") for v in verdicts.values())
    assert grade_response("3", "\\boxed{(1,2)+3}")["message"].startswith("the answer cannot be read")
    assert "message" not in grade_response("3", "\\boxed{4}")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_no_part_of_a_reference_stands_for_the_whole(tasks, name):
    task, wrong = tasks[name], []
    for line, gold in enumerate(task.golds.values()):
        symbols = re.search(r"[A-Za-z]", re.sub(r"\\\\[A-Za-z]+(?:\\{[^{}]*\\})?|^[a-z](?:\\(x\\))? ?=", "", gold))
        parts = {gold + "+1", *(re.findall(r"\\d+|\\\\frac\\{\\d+\\}\\{\\d+\\}", gold) if symbols else ())} - {gold}
        wrong += [(line, gold, part) for part in parts if judge(task, line, f"\\boxed{{{part}}}").passed]
    assert wrong == []


def test_both_gradings_judge_a_pair_as_their_rules_say():
    found = [
        (gold, text, *(grade_response(given, text, rules)["status"] == "ok" for given, rules in pairs))
        for gold, text, *_ in TWO_GRADINGS
        for pairs in [((normalise_answer(gold), "math_verify"), (gold, "qwen_compat"))]
    ]
    assert [pair for pair, expected in zip(found, TWO_GRADINGS, strict=True) if pair != expected] == []


# Qwen's rules strip an answer twice and a reference once, and so find these unequal to themselves, there as here
UNEQUAL_TO_THEMSELVES = {"qwen-boxed": set(), "qwen-compat": {"math500/383", "minerva_math/139"}}


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["qwen-boxed", "qwen-compat"])
@pytest.mark.parametrize("name", NAMES)
def test_every_reference_verifies_against_itself(data_dir, name, protocol):
    task = TASKS[name](data_dir, protocol)
    scores = [judge(task, line, f"So \\boxed{{{gold}}}.") for line, gold in enumerate(task.golds.values())]
    failed = {score.sample_id for score in scores if not score.passed}
    assert failed == {each for each in UNEQUAL_TO_THEMSELVES[protocol] if each.startswith(f"{name}/")}
    columns = task.summarise(scores)
    assert columns["average@1"].value == pytest.approx(1 - len(failed) / len(scores))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_reference_of_another_problem_is_seldom_right(tasks, name):
    golds = list(tasks[name].golds.values())
    scores = [judge(tasks[name], line, f"\\boxed{{{golds[line - 1]}}}") for line in range(len(golds))]
    passed = [line for line, score in enumerate(scores) if score.passed and golds[line] != golds[line - 1]]
    assert [(golds[line], golds[line - 1]) for line in passed] == ([("x=5", "5")] if name == "math500" else [])


def test_minerva_accepts_powers_of_ten(tasks, data_dir):
    task = tasks["minerva_math"]
    rows = [json.loads(line) for line in (data_dir / "math/minerva_math.jsonl").read_text().splitlines()]
    found = 0
    for line, row in enumerate(rows):
        if match := re.fullmatch(r"\s*([-\d.]+)e(-?\d+)\s*", read_gold("minerva_math", row)):
            found += 1
            right = f"\\boxed{{{match[1]} \\times 10^{{{int(match[2])}}}}}"
            wrong = f"\\boxed{{{match[1]} \\times 10^{{{int(match[2]) + 1}}}}}"
            assert judge(task, line, right).passed, row
            assert not judge(task, line, wrong).passed, row
    assert found == 58


def test_what_counts_as_the_answer():
    assert last_box("a \\boxed{1} b \\boxed{\\frac{2}{3}} c") == "\\frac{2}{3}"
    assert last_box("\\boxed{\\boxed{7}}") == "\\boxed{7}" and last_box("\\fbox{7}") == "7"
    assert last_box("\\boxed{\\{1,2\\}}") == "\\{1,2\\}" and last_box("\\boxed {3}") == "3"
    assert last_box("\\boxed{4} then \\boxed{5") == "4" and last_box("\\boxed{5") is None and last_box("5") is None
    assert (
        extract_answer("so \\boxed{5") is None and extract_answer("") is None and extract_answer("\\boxed{ }") is None
    )
    assert grade_response("5", "so \\boxed{5")["status"] == "no_answer"
    unboxed = grade_response("5", "The answer is 5.")
    assert (unboxed["status"], unboxed["has_box"]) == ("ok", False)


def test_what_follows_the_end_of_the_turn_is_not_the_answer(tasks):
    text = "\\boxed{204}<|im_end|>\n<|im_start|>user\nAnother?\\boxed{3}"
    assert judge(tasks["aime24"], 0, text).passed


def test_statuses(tasks):
    task = tasks["aime24"]
    assert judge(task, 0, "", finish_reason="stop").status == "no_answer"
    assert judge(task, 0, "\\boxed{203}", finish_reason="stop").status == "wrong"
    assert judge(task, 0, "Let us see: 4+", finish_reason="length").status == "truncated"
    assert judge(task, 0, "\\boxed{204} and so on", finish_reason="length").status == "ok"


TOWER = "\\boxed{9^{9^{9^{9^{9}}}}}"
PATHOLOGICAL = {
    "a power tower": TOWER,
    "factorials": "\\boxed{((99999999!)!)!}",
    "a huge power": "\\boxed{(1+\\sqrt{2})^{10^{9}}+3^{10^{10}}}",
    "megabytes of LaTeX": "\\boxed{" + "\\frac{1}{2}+" * 300_000 + "1}",
    "unbalanced boxes": "\\boxed{" * 200_000,
    "unbalanced braces": "{" * 500_000 + "\\boxed{3" + "}{" * 300_000,
    "closing braces": "}" * 1_000_000,
    "deep fractions": "\\boxed{" + "\\frac{1}{" * 400 + "2" + "}" * 400 + "}",
    "no box, megabytes": "1+" * 1_000_000,
    "control characters": "\\boxed{\0\x1b[2J\ud83d}",
}


@pytest.mark.slow
@pytest.mark.parametrize("rules", ["math_verify", "qwen_compat"])
def test_pathological_answers_end_without_stopping_the_others(rules):
    def timed(text):
        start = time.monotonic()
        return grade_response("204", text, rules)["status"], time.monotonic() - start

    texts = [text for bad in PATHOLOGICAL.values() for text in ("\\boxed{204}", bad)]
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(timed, texts))
    assert [status for status, _ in results[::2]] == ["ok"] * len(PATHOLOGICAL)
    statuses = dict(zip(PATHOLOGICAL, (status for status, _ in results[1::2]), strict=True))
    assert "ok" not in statuses.values(), statuses
    assert max(seconds for _, seconds in results) < 3 * grader.WALL_LIMIT_S


@pytest.mark.slow
@pytest.mark.parametrize("rules", ["math_verify", "qwen_compat"])
def test_a_hung_grading_is_killed_at_its_limit_and_the_next_one_is_judged(rules):
    gold = "\\int_0^{1} \\sin(x^{x^{x^{x}}}) \\prod_{k=1}^{10000000} (1+k!) dx"
    start = os.times()
    statuses = [grade_response("204", text, rules)["status"] for text in (f"\\boxed{{{gold}}}", TOWER)]
    used = sum(os.times()[2:4]) - sum(start[2:4])
    assert set(statuses) <= {"timeout", "wrong", "oom"} and used < 4 * CPU_LIMIT_S + 10
    assert grade_response("204", "\\boxed{204}", rules)["status"] == "ok"


def test_a_grader_killed_from_outside_is_nobodys_answer():
    assert grade_response("5", "\\boxed{5}")["status"] == "ok"
    for worker in grader._idle:
        worker._process.kill()
        worker._process.wait()
    with pytest.raises(GraderError):
        for _ in range(len(grader._idle)):
            grade_response("5", "\\boxed{5}")
    grader._idle.clear()
    assert grade_response("5", "\\boxed{5}")["status"] == "ok"


def test_average_at_k(tasks):
    task = tasks["aime24"]
    golds = list(task.golds.values())
    scores = [
        judge(task, line, f"\\boxed{{{golds[line] if (line + repeat) % 7 == 0 else '1000000'}}}", repeat=repeat)
        for repeat in range(4)
        for line in range(30)
    ]
    columns = task.summarise(scores)
    runs = [sum((line + repeat) % 7 == 0 for line in range(30)) for repeat in range(4)]
    assert next(iter(columns)) == "average@4" and columns["average@4"].value == pytest.approx(sum(runs) / 120)
    rounded = columns["average@4 (paper: each run rounded to 0.1)"]
    assert rounded.value == pytest.approx(sum(round(100 * run / 30, 1) for run in runs) / 400, abs=1e-12)
    assert rounded.low is None and rounded.value != columns["average@4"].value
    assert columns["without a box"].value == columns["truncated"].value == 0.0


def test_the_fingerprint_names_what_the_score_depends_on(tasks, data_dir):
    fingerprint = tasks["amc23"].fingerprint()
    assert fingerprint == describe_grader()
    assert {"grader", "math-verify", "sympy", "latex2sympy2-extended", "antlr4-python3-runtime"} < set(fingerprint)
    graders = {TASKS[name](data_dir, "qwen-compat").fingerprint()["grader"] for name in NAMES}
    assert len(graders) == 2 and all(grader.startswith("qwen_compat ") for grader in graders)  # Minerva keeps units


def test_qwen_compat_keeps_minervas_units_and_counts_an_unclosed_box(data_dir):
    minerva, aime = (TASKS[name](data_dir, "qwen-compat") for name in ("minerva_math", "aime24"))
    assert grade_response("m", "\\boxed{g}", minerva.qwen_rules)["status"] == "wrong"
    assert grade_response("2+m", "\\boxed{2+g}", minerva.qwen_rules)["status"] == "wrong"
    assert grade_response("2+m", "\\boxed{2+g}", aime.qwen_rules)["status"] == "ok"
    score = judge(aime, 0, "so \\boxed{204", finish_reason="length")
    assert (score.status, score.detail["has_box"], score.detail["answer"]) == ("ok", False, "204")


@pytest.mark.slow
def test_a_report_refuses_to_compare_the_two_gradings(data_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("DFT_DATA_DIR", str(data_dir))
    samples = tmp_path / "s.jsonl"
    samples.write_text(json.dumps({"sample_id": "aime24/0", "completion": "\\boxed{204}"}) + "\n")
    for protocol in ("qwen-boxed", "qwen-compat"):
        request = ScoreRequest("aime24", samples, tmp_path / protocol / "aime24", protocol)
        score_file(request, TASKS, LocalPool(num_workers=1))
    with pytest.raises(ConfigError, match="cannot be compared: protocol qwen-boxed -> qwen-compat; fingerprint.grader"):
        build_comparison([tmp_path / "qwen-boxed", tmp_path / "qwen-compat"])
