"""Reading and writing answers: the records of `--samples FILE.jsonl` and of `generations.jsonl` are the same."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dft_eval.errors import RecordsError
from dft_eval.records.jsonl import Key, index_records, read_lines
from dft_eval.records.schema import Answer, FinishReason

logger = logging.getLogger(__name__)

_TEXTS = ("completion", "program", "answer")


class AnswerRecord(BaseModel):
    """One line: an id and exactly one of three texts.

    Attributes:
        sample_id: The benchmark's own id.
        repeat: Which of several answers to the sample, from 0.
        completion: Text after the prompt.
        program: Complete source.
        answer: The response text to grade.
        finish_reason: `length` where the model ran into its limit.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    sample_id: Annotated[str, Field(min_length=1)]
    repeat: Annotated[int, Field(ge=0)] = 0
    completion: str | None = None
    program: str | None = None
    answer: str | None = None
    finish_reason: FinishReason | None = None

    @model_validator(mode="after")
    def _has_one_text(self) -> AnswerRecord:
        given = [name for name in _TEXTS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"found {' and '.join(given) or 'no text'}; exactly one of {', '.join(_TEXTS)} is accepted"
            )
        return self


def parse_answer(line: bytes) -> Answer:
    """An answer from a line.

    Raises:
        ValueError: it is none; says why, in one line.
    """
    try:
        record = AnswerRecord.model_validate_json(line)
    except ValidationError as error:
        raise ValueError(describe_validation(error)) from error
    return Answer(
        record.sample_id, record.repeat, record.completion, record.program, record.answer, record.finish_reason
    )


def dump_answer(answer: Answer) -> dict[str, Any]:
    """The JSON object of an answer; texts that are not given are left out."""
    texts = {"completion": answer.completion, "program": answer.program, "answer": answer.response}
    record: dict[str, Any] = {"sample_id": answer.sample_id, "repeat": answer.repeat}
    record |= {name: text for name, text in texts.items() if text is not None}
    return record | ({} if answer.finish_reason is None else {"finish_reason": answer.finish_reason})


def answer_key(answer: Answer) -> Key:
    """The id an answer is recorded under."""
    return answer.sample_id, answer.repeat


def read_answers(path: Path, known_ids: Collection[str] | None) -> list[Answer]:
    """Every answer of a file somebody else made.

    Args:
        path: The JSONL file. Lines that repeat an earlier one exactly are ignored, with their count.
        known_ids: The benchmark's sample ids; None accepts any.

    Raises:
        RecordsError: a line that is no record, an id the benchmark does not have, an id twice with different
            text, or no record at all; names the line.
    """

    def parse(line: bytes) -> Answer:
        answer = parse_answer(line)
        if known_ids is not None and answer.sample_id not in known_ids:
            example = next(iter(known_ids), "")
            raise ValueError(f"sample_id {answer.sample_id!r} is not in this benchmark; its ids look like {example!r}.")
        return answer

    answers, num_duplicates = index_records(path, read_lines(path), parse, answer_key)
    if not answers:
        raise RecordsError(f"{path} holds no record. Give one JSON object a line, with sample_id and completion.")
    if num_duplicates:
        logger.warning("%s: %d lines repeat earlier ones and are ignored.", path, num_duplicates)
    return list(answers.values())


def describe_validation(error: ValidationError) -> str:
    """The first complaints of pydantic in one line, without the input, which may be long."""
    complaints = []
    for entry in error.errors(include_url=False, include_input=False)[:3]:
        where = ".".join(str(part) for part in entry["loc"])
        complaints.append(f"{where}: {entry['msg']}" if where else entry["msg"])
    return "; ".join(complaints)
