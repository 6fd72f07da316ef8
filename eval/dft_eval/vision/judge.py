"""Answers judged by VLMEvalKit and a judging model: every reply recorded once, no failure taken for a verdict."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dft_eval.errors import BackendError, ConfigError
from dft_eval.records.jsonl import JsonlLog, Key
from dft_eval.records.schema import Answer, Score, Status
from dft_eval.vision.dataset import VlmevalDataset
from dft_eval.vision.process import VlmevalProcess
from dft_eval.vision.settings import JudgeSettings

logger = logging.getLogger(__name__)

REPLIES_FILE = "judge.jsonl"


def announce_calls(judge: JudgeSettings, most: Mapping[str, int]) -> None:
    """Log before anything is asked how many calls of a judge a command may take.

    Args:
        judge: Who is called.
        most: Calls at most, by benchmark; none of 0.

    Raises:
        ConfigError: they are more than `max_calls`.
    """
    if not most:
        return
    each = ", ".join(f"{name} {count}" for name, count in most.items())
    told = f"judging takes at most {sum(most.values())} calls of {judge.model} ({each})"
    logger.info("%s, less those answered already, without repeats of unreadable replies.", told)
    if judge.max_calls is not None and sum(most.values()) > judge.max_calls:
        raise ConfigError(f"{told}; max_calls is {judge.max_calls}. Raise it, or take --limit.")


@dataclass(frozen=True)
class _Reply:
    """One line of `judge.jsonl`: what the judge said to a prompt, by the sha256 of model, prompt and temperature."""

    key: str
    text: str


@dataclass(frozen=True)
class VlmevalJudge:
    """Executor that judges the answers of one run folder.

    Attributes:
        dataset: The benchmark.
        settings: The judge.
        process: VLMEvalKit's.
        folder: The claimed run folder; replies are kept in its `judge.jsonl`.
        num_answers: Of the whole run, of which `max_unjudged` is a share.
    """

    dataset: VlmevalDataset
    settings: JudgeSettings
    process: VlmevalProcess
    folder: Path
    num_answers: int

    def score(self, task: object, answers: Sequence[Answer]) -> Iterator[Score]:
        """Yield one score for each answer; the benchmark is the dataset, whatever the task says.

        Raises:
            BackendError: more answers stay unjudged than `max_unjudged` allows; the verdicts given stay good.
        """
        if not answers:
            return
        with JsonlLog(self.folder / REPLIES_FILE, _parse_reply, vars, _reply_key) as log:
            logger.info(
                "%s: judging %d answers; %d replies are known.", self.dataset.task_name, len(answers), len(log.records)
            )
            verdicts = list(self._ask(answers, log))
        unjudged = [verdict for verdict in verdicts if verdict["passed"] is None]
        is_failed = len(unjudged) > self._max_failed
        by_id = {answer.sample_id: answer for answer in answers}
        for verdict in verdicts:
            if verdict["passed"] is not None or not is_failed:
                yield self._score(by_id[verdict["id"]], verdict)
        if is_failed:
            raise BackendError(
                f"{self.settings.model} gave no readable verdict on {len(unjudged)} of {self.num_answers} answers, "
                f"{unjudged[0]['id']} first; {self._max_failed} may stay unjudged (max_unjudged). "
                "The same command tries failed calls again; where replies are unreadable, take another judge."
            )

    @property
    def _max_failed(self) -> int:
        return int(self.settings.max_unjudged * self.num_answers)

    def _ask(self, answers: Sequence[Answer], log: JsonlLog[_Reply]) -> Iterator[Mapping[str, Any]]:
        job = {
            "job": "evaluate",
            **self.dataset.describe(),
            "answers": {answer.sample_id: answer.text.replace("\0", "") for answer in answers},
            "judge": {**self.settings.model_dump(), "max_failed": self._max_failed * self.dataset.calls_per_answer},
            "cache": {reply.key: reply.text for reply in log.records.values()},
        }
        for message in self.process.run(job):
            if "reply" in message:
                log.append([_Reply(**message["reply"])])
            else:
                yield message["verdict"]

    def _score(self, answer: Answer, verdict: Mapping[str, Any]) -> Score:
        passed = verdict["passed"]
        status: Status = "unjudged" if passed is None else "ok" if passed else "wrong"
        if status == "wrong" and answer.finish_reason == "length":
            status = "truncated"
        detail = {"judge": self.settings.model, "extracted": str(verdict["extracted"])[:200]}
        score = None if passed is None else float(passed)
        return Score(answer.sample_id, answer.repeat, passed, status, score, detail)


def _parse_reply(line: bytes) -> _Reply:
    record = json.loads(line)
    if not isinstance(record, dict) or {name: type(value) for name, value in record.items()} != _FIELDS:
        raise ValueError(f"no reply of a judge: {line[:80]!r}")
    return _Reply(**record)


_FIELDS = {"key": str, "text": str}


def _reply_key(reply: _Reply) -> Key:
    return reply.key, 0
