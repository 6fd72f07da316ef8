"""`dft eval grade`: any answers against any references, by the rules of the benchmarks."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dft_eval.end_tokens import cut_at_end_token
from dft_eval.errors import MissingPrerequisite, RecordsError
from dft_eval.records.files import make_folder, write_whole
from dft_eval.records.jsonl import Line, encode_record, read_lines, read_object
from dft_eval.records.schema import Status
from dft_eval.tasks.choices import LETTERS, find_choice
from dft_eval.tasks.facts.short_answers import is_exact_match, normalise
from dft_eval.tasks.facts.short_responses import read_short_answer
from dft_eval.tasks.math.golds import normalise_answer
from dft_eval.tasks.math.grader import GraderError, close_graders, grade_response, is_installed

Rules = Literal["math", "short_answer", "choice"]
"""`math`: equal expressions; `short_answer`: ORQA's exact match; `choice`: the letter that is chosen."""

_GOLD_LETTER = re.compile(r"(?:\\text(?:bf)?\s*\{)?\W*([A-J])\W*")


@dataclass(frozen=True)
class Grade:
    """Verdict on one response.

    Attributes:
        passed: None where it could not be graded because of us.
        status: As in a score record: `ok`, `wrong`, `no_answer`, `timeout`, `oom`, `runtime_error`, `infra_error`.
        read: What was read as the answer.
        message: Why, where there is more to say.
    """

    passed: bool | None
    status: Status
    read: str
    message: str = ""


def grade(golds: Iterable[str], response: str, rules: Rules) -> Grade:
    """Grade a response against the references, any one of which makes it right.

    Safe to call from threads; mathematics is graded in processes that are killed at their limits.

    Args:
        golds: Accepted references, at least one.
        response: All a model wrote; what follows an end token does not count.
        rules: By which.
    """
    text = cut_at_end_token(response)
    if rules == "choice":
        return _grade_choice(list(golds), text)
    if rules == "short_answer":
        read = read_short_answer(text)
        status: Status = "ok" if is_exact_match(read, tuple(golds)) else "wrong" if normalise(read) else "no_answer"
        return Grade(status == "ok", status, read[:200])
    verdict = Grade(False, "no_answer", "")
    for gold in golds:
        try:
            found = grade_response(normalise_answer(gold), text)
        except GraderError as error:
            return Grade(None, "infra_error", "", str(error))
        verdict = Grade(found["status"] == "ok", found["status"], found["answer"], found.get("message", ""))
        if verdict.passed:
            break
    return verdict


def require_grader(rules: Rules, asked_by: str) -> None:
    """Check that what the rules need is installed.

    Args:
        rules: By which is graded.
        asked_by: What to call the wish in the message.

    Raises:
        MissingPrerequisite: it is not.
    """
    if rules == "math" and not is_installed():
        raise MissingPrerequisite(f"{asked_by} needs math-verify; run: pip install 'dft-plugin[eval]'")


def grade_records(
    records: Iterable[Mapping[str, Any]], rules: Rules, num_workers: int | None = None
) -> Iterator[Grade]:
    """Grade records `{gold, response}` side by side, in their order.

    Args:
        records: With `gold` (text or list of texts) and `response`, checked by `read_records`.
        rules: By which.
        num_workers: Grading processes; None is one a core.
    """
    require_grader(rules, "--rules math")

    def grade_one(record: Mapping[str, Any]) -> Grade:
        gold = record["gold"]
        return grade([gold] if isinstance(gold, str) else gold, record["response"], rules)

    with ThreadPoolExecutor(num_workers or os.cpu_count() or 1) as pool:
        try:
            yield from pool.map(grade_one, records)
        finally:
            pool.shutdown(cancel_futures=True)
            close_graders()


def grade_file(path: Path, rules: Rules, out: Path | None = None, num_workers: int | None = None) -> dict[str, Any]:
    """Grade a file, and write its records with their verdicts.

    Args:
        path: JSONL, one record `{gold, response}` a line; other fields are kept.
        rules: By which.
        out: Where the graded records go, whole or not at all; None writes none.
        num_workers: Grading processes.

    Returns:
        `total`, `passed`, `rules` and the count of each status.

    Raises:
        RecordsError: a line is no such record; names file, line and field.
    """
    records = read_records(path, rules)
    grades = list(grade_records(records, rules, num_workers))
    if out is not None:
        _write_graded(out, records, grades)
    statuses = Counter(found.status for found in grades)
    num_passed = sum(found.passed is True for found in grades)
    return {
        "total": len(grades),
        "passed": num_passed,
        "failed": sum(found.passed is False for found in grades),
        "unjudged": sum(found.passed is None for found in grades),
        "pass_rate": num_passed / len(grades) if grades else None,
        "rules": rules,
        "statuses": dict(sorted(statuses.items())),
    }


def read_records(path: Path, rules: Rules) -> list[dict[str, Any]]:
    """Read and check every record before the first is graded.

    Raises:
        RecordsError: names file, line and field.
    """
    lines = read_lines(path)
    if not lines:
        raise RecordsError(
            f'{path} holds no record; one JSON object a line is needed: {{"gold": ..., "response": ...}}'
        )
    return [_read_record(path, line, rules) for line in lines]


def _read_record(path: Path, line: Line, rules: Rules) -> dict[str, Any]:
    where = f"{path}, line {line.number}"
    record = read_object(line.content, where, '{"gold": ..., "response": ...}')
    for field in ("gold", "response"):
        if field not in record:
            raise RecordsError(f"{where} has no field {field!r}; found: {', '.join(map(repr, record)) or 'none'}.")
    golds = record["gold"] if isinstance(record["gold"], list) else [record["gold"]]
    if not golds or not all(isinstance(gold, str) and gold.strip() for gold in golds):
        raise RecordsError(f"{where}, field 'gold': a text or a list of texts is needed, none of them empty.")
    if not isinstance(record["response"], str):
        raise RecordsError(f"{where}, field 'response': a text is needed, all that the model wrote.")
    if rules == "choice" and (bad := [gold for gold in golds if not _GOLD_LETTER.fullmatch(gold)]):
        raise RecordsError(f"{where}, field 'gold': {bad[0]!r} is no letter from {LETTERS[0]} to {LETTERS[-1]}.")
    return record


def _grade_choice(golds: list[str], text: str) -> Grade:
    chosen = find_choice(dict.fromkeys(LETTERS, ""), text)
    if chosen is None:
        return Grade(False, "no_answer", "")
    is_right = chosen in {match[1] for gold in golds if (match := _GOLD_LETTER.fullmatch(gold))}
    return Grade(is_right, "ok" if is_right else "wrong", chosen)


def _write_graded(out: Path, records: list[dict[str, Any]], grades: list[Grade]) -> None:
    graded = (
        {**record, "passed": found.passed, "status": found.status, "read": found.read}
        for record, found in zip(records, grades, strict=True)
    )
    make_folder(out.parent)
    write_whole(out, b"".join(map(encode_record, graded)).decode("utf-8"))
