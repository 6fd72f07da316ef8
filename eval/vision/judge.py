"""Answers judged by VLMEvalKit and a judging model: every reply recorded once, no failure taken for a verdict."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dft_eval.errors import BackendError, ConfigError
from dft_eval.jsonl import JsonlLog, Key
from dft_eval.judging import Executor
from dft_eval.records import Answer, Score, Status
from dft_eval.tasks.base import Task
from dft_eval.tasks.vision import VisionTask
from dft_eval.vision.process import VlmevalProcess
from dft_eval.vision.settings import JudgeSettings, VisionSettings

logger = logging.getLogger(__name__)

REPLIES_FILE = "judge.jsonl"


def choose_executor(
    task: Task, executor: Executor, vision: VisionSettings, folder: Path, num_answers: int, process: VlmevalProcess
) -> Executor:
    """The judge where the protocol is `judge`, else the executor itself.

    Args:
        task: What is judged.
        executor: For all other protocols.
        vision: With the judge.
        folder: The run folder.
        num_answers: Of the whole run.
        process: VLMEvalKit's.
    """
    if task.protocol != "judge" or vision.judge is None:
        return executor
    return VlmevalJudge(vision.judge, process, folder, num_answers)


@dataclass(frozen=True)
class _Reply:
    """One line of `judge.jsonl`: what the judge said to a prompt, by the sha256 of model, prompt and temperature."""

    key: str
    text: str


@dataclass(frozen=True)
class VlmevalJudge:
    """Judges the answers of one run folder.

    Attributes:
        settings: The judge.
        process: VLMEvalKit's.
        folder: The claimed run folder; replies are kept in its `judge.jsonl`.
        num_answers: Of the whole run, of which `max_unjudged` is a share.
    """

    settings: JudgeSettings
    process: VlmevalProcess
    folder: Path
    num_answers: int

    def judge(self, task: Task, answers: Sequence[Answer]) -> Iterator[Score]:
        """One verdict for each answer.

        Raises:
            BackendError: more answers stay unjudged than `max_unjudged` allows; the verdicts given stay good.
            ConfigError: more calls may be needed than `max_calls` allows.
        """
        assert isinstance(task, VisionTask)
        if not answers:
            return
        with JsonlLog(self.folder / REPLIES_FILE, _parse_reply, vars, _reply_key) as log:
            self._announce(task, len(answers), len(log.records))
            verdicts = list(self._ask(task, answers, log))
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

    def _announce(self, task: VisionTask, num_answers: int, num_replies: int) -> None:
        most = num_answers * task.calls_per_answer
        logger.info(
            "%s: judging %d answers takes at most %d calls of %s, not counting repeats of unreadable replies; "
            "%d replies are recorded already.",
            *(task.name, num_answers, most, self.settings.model, num_replies),
        )
        if self.settings.max_calls is not None and most > self.settings.max_calls:
            raise ConfigError(
                f"judging {num_answers} answers of {task.name} may take {most} calls of {self.settings.model}; "
                f"max_calls is {self.settings.max_calls}."
            )

    def _ask(self, task: VisionTask, answers: Sequence[Answer], log: JsonlLog[_Reply]) -> Iterator[Mapping[str, Any]]:
        job = {
            "job": "evaluate",
            **task.describe_dataset(),
            "answers": {answer.sample_id: task.read_text(answer).replace("\0", "") for answer in answers},
            "judge": {**self.settings.model_dump(), "max_failed": self._max_failed * task.calls_per_answer},
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
