"""Reading and writing answers: the records of `--samples FILE.jsonl` and of `generations.jsonl` are the same."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from dft_eval.errors import RecordsError
from dft_eval.records.jsonl import Key, index_records, read_lines
from dft_eval.records.schema import TEXTS, Answer

logger = logging.getLogger(__name__)

_ANSWER = TypeAdapter(with_config(ConfigDict(strict=True, extra="forbid"))(Answer))
_OTHER_FORMATS = (
    (b"\xef\xbb\xbf", "starts with a byte order mark", "tail -c +4 {path} > samples.jsonl"),
    (b"\xff\xfe", "is UTF-16", "iconv -f UTF-16 -t UTF-8 {path} > samples.jsonl"),
    (b"\xfe\xff", "is UTF-16", "iconv -f UTF-16 -t UTF-8 {path} > samples.jsonl"),
    (b"\x1f\x8b", "is compressed with gzip", "gunzip -c {path} > samples.jsonl"),
    (b"[", "is one JSON array", "jq -c '.[]' {path} > samples.jsonl"),
)
_ACCEPTED = "accepted is UTF-8 text with one JSON object a line"


def parse_answer(line: bytes) -> Answer:
    """Read an answer from a line.

    Raises:
        ValueError: it is none; says why, in one line.
    """
    try:
        return _ANSWER.validate_json(line)
    except ValidationError as error:
        raise ValueError(_recognise_fields(line) or describe_validation(error)) from error


def dump_answer(answer: Answer) -> dict[str, Any]:
    """Return the JSON object of an answer; texts that are not given are left out."""
    record: dict[str, Any] = _ANSWER.dump_python(answer, by_alias=True, exclude_none=True)
    return record


def answer_key(answer: Answer) -> Key:
    """Return the id an answer is recorded under."""
    return answer.sample_id, answer.repeat


def read_answers(path: Path, known_ids: Collection[str] | None, texts: Sequence[str] = TEXTS) -> list[Answer]:
    """Read every answer of a file that was made elsewhere.

    Args:
        path: The JSONL file. Lines that repeat an earlier one exactly are ignored, with their count.
        known_ids: The benchmark's sample ids; None accepts any.
        texts: Fields the benchmark reads.

    Raises:
        RecordsError: another format, a line that is no record, an id the benchmark does not have, an id twice with
            different text, repeats that do not start at 0, or no record at all; names the line and the fix.
    """

    def parse(line: bytes) -> Answer:
        answer = parse_answer(line)
        if known_ids is not None and answer.sample_id not in known_ids:
            example = next(iter(known_ids), "")
            raise ValueError(f"sample_id {answer.sample_id!r} is not in this benchmark; its ids look like {example!r}.")
        if answer.given not in texts:
            raise ValueError(
                f"{answer.given}: not read by this benchmark; accepted: {', '.join(texts)}. Give the response as one."
            )
        return answer

    _refuse_other_formats(path)
    answers, num_duplicates = index_records(path, read_lines(path), parse, answer_key)
    if not answers:
        raise RecordsError(f"{path} holds no record. Give one JSON object a line, with sample_id and completion.")
    if num_duplicates:
        logger.warning("%s: %d lines repeat earlier ones and are ignored.", path, num_duplicates)
    if (first := min(answer.repeat for answer in answers.values())) > 0:
        raise RecordsError(f"{path}: `repeat` starts at {first}; it counts from 0. Subtract {first} from each.")
    return list(answers.values())


def describe_validation(error: ValidationError) -> str:
    """Return the first complaints of pydantic in one line, without the input, which may be long."""
    complaints = []
    for entry in error.errors(include_url=False, include_input=False)[:3]:
        where = ".".join(str(part) for part in entry["loc"])
        is_extra = entry["type"] == "unexpected_keyword_argument"  # what pydantic calls an extra key of a dataclass
        message = "Extra inputs are not permitted" if is_extra else entry["msg"]
        message = message.removeprefix("Value error, ").replace(" at line 1 column ", " at column ")
        complaints.append(f"{where}: {message}" if where else message)
    return "; ".join(complaints)


def _refuse_other_formats(path: Path) -> None:
    """Name the format of a file that is not JSONL; one that cannot be read is reported where it is read."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        first = file.readline(1 << 16)
    for start, found, command in _OTHER_FORMATS:
        if first.startswith(start):
            raise RecordsError(f"{path} {found}; {_ACCEPTED}. Run: {command.format(path=path)}")
    columns = [column.strip(b" \"'\r\n") for column in first.replace(b"\t", b",").split(b",")]
    if b"{" not in first and {b"sample_id", b"task_id"} & set(columns):
        raise RecordsError(
            f"{path}, line 1: the header of a table (CSV or TSV); {_ACCEPTED}. Run: python -c 'import pandas; "
            f'pandas.read_csv("{path}").to_json("samples.jsonl", orient="records", lines=True)\''
        )


def _recognise_fields(line: bytes) -> str | None:
    """Tell how to rename the fields of EvalPlus and of OpenAI's HumanEval; None where they are not these."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict) or "task_id" not in record or "sample_id" in record:
        return None
    text = "solution" if "solution" in record else "completion"
    field = "program" if text == "solution" else "completion"
    return (
        f"task_id: the fields are those of EvalPlus or HumanEval; accepted: sample_id, and completion, program or "
        f"answer. Run: jq -c '{{sample_id: .task_id, {field}: .{text}}}' FILE > samples.jsonl"
    )
