"""Answers on which an arm and the baseline disagree, word by word."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dft_eval.errors import StoreError
from dft_eval.records.jsonl import read_lines
from dft_eval.records.schema import TEXTS
from dft_eval.records.store import RunFolder
from dft_eval.report.comparison import Comparison, Scores
from dft_eval.report.document import Change, Example
from dft_eval.report.runs import ComparedRun

MOST_EXAMPLES = 3
MOST_CHARACTERS = 800
_FIRST_ANSWER = 0


def find_examples(comparison: Comparison) -> tuple[Example, ...]:
    """Up to three answers a benchmark of which just one of the baseline's and an arm's is right.

    They are the first in the benchmark's order, whoever is right, of the first answers of the runs of the lowest seed:
    no choice by eye, and no measure of how often it happens. A problem is shown for the first arm that differs in it.
    """
    return tuple(example for task in comparison.tasks for example in _of_task(comparison, task))


def word_changes(before: str, after: str) -> tuple[Change, ...]:
    """The changes that turn one text into another, in words and the space between them."""
    old, new = (re.findall(r"\s+|[^\s]+", text) for text in (before, after))
    changes: list[Change] = []
    for _, start, end, new_start, new_end in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        removed, added = "".join(old[start:end]), "".join(new[new_start:new_end])
        if removed == added:
            changes.append(Change("same", removed))
            continue
        changes += [Change("removed", removed)] if removed else []
        changes += [Change("added", added)] if added else []
    return tuple(changes)


def cut(text: str) -> str:
    """The beginning of a text, with a mark that says how much is not shown."""
    if len(text) <= MOST_CHARACTERS:
        return text
    return f"{text[:MOST_CHARACTERS]} [... {len(text) - MOST_CHARACTERS:,} more characters]"


def _lowest(scores: Scores) -> ComparedRun:
    return scores.runs[min(scores.runs, key=lambda seed: -1 if seed is None else seed)]


def _of_task(comparison: Comparison, task: str) -> Iterator[Example]:
    found = [comparison.grid.get((task, arm)) for arm in comparison.arms]
    runs = [_lowest(scores) for scores in found if scores is not None and scores.can_be_compared]
    if len(runs) < 2 or runs[0].model != comparison.baseline:
        return
    first, before = runs[0], _passes(runs[0])
    order = {name: index for index, name in enumerate(first.by_problem)}
    differing: dict[str, ComparedRun] = {}
    for second in runs[1:]:
        for name, passed in _passes(second).items():
            if name in before and before[name] != passed:
                differing.setdefault(name, second)
    chosen = sorted(differing, key=lambda name: (order.get(name, len(order)), name))[:MOST_EXAMPLES]
    texts = {run.path: _texts(run, chosen) for run in (first, *(differing[name] for name in chosen))}
    for name in chosen:
        second = differing[name]
        old, new = texts[first.path].get(name), texts[second.path].get(name)
        if old is None or new is None:
            continue  # answers that were not kept
        right, wrong = (first, second) if before[name] else (second, first)
        title = f"{task}, {name}: {right.name} is right, {wrong.name} is wrong"
        yield Example(title, first.name, second.name, word_changes(cut(old), cut(new)))


def _passes(run: ComparedRun) -> dict[str, bool]:
    """The first answer to each sample, True where it passed; without those that were not judged."""
    found: dict[str, bool] = {}
    for record in _records(RunFolder(run.path).scores_file):
        if record.get("repeat", 0) == _FIRST_ANSWER and isinstance(record.get("passed"), bool):
            found[str(record["sample_id"])] = record["passed"]
    return found


def _texts(run: ComparedRun, names: list[str]) -> dict[str, str]:
    wanted = [json.dumps(name, ensure_ascii=False).encode() for name in names]
    wanted += [json.dumps(name).encode() for name in names]
    found: dict[str, str] = {}
    for record in _records(RunFolder(run.path).generations_file, wanted):
        if record.get("repeat", 0) == _FIRST_ANSWER and record["sample_id"] in names:
            found[record["sample_id"]] = next((str(record[key]) for key in TEXTS if record.get(key) is not None), "")
    return found


def _records(path: Path, wanted: list[bytes] | None = None) -> Iterator[Mapping[str, Any]]:
    """Records of a file; none where it is not there. With `wanted`, those whose line holds one of these alone."""
    if not path.is_file():
        return
    for number, line in read_lines(path):
        if wanted is not None and not any(each in line for each in wanted):
            continue
        try:
            record = json.loads(line)
            record["sample_id"]
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{path}, line {number}, cannot be read ({error}); run the command that made it again."
            ) from error
        yield record
