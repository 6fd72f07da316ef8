"""Alarms of a training run: what the statistics of its logging windows say is going wrong, and what to try.

Pure bookkeeping on plain numbers. An alarm is a sign, not a proof: each says what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

# Two neighbouring halves of a history are compared. Fewer windows are noise, and within fewer optimiser steps a
# healthy run need not have moved either.
MIN_WINDOWS, MIN_STEPS = 8, 40
# Class means of fewer tokens than this in either half are noise.
MIN_CLASS_TOKENS = 16
# A class gets "hardly any gradient" where its tokens weigh a twentieth of the average token: at that rate an epoch
# teaches them less than a twentieth of what it teaches the rest. Relative, because optimisers undo a common factor.
STARVING_WEIGHT = 0.05
# Above one half greedy decoding emits the token: whatever its weight, it is learned.
LEARNED_P = 0.5
# Improving: the NLL of the later half is at least this share lower than that of the earlier half.
MIN_IMPROVEMENT = 0.05
# A run on data that suits it starts at 0.4 or more and keeps that; a twentieth of the tokens is no longer the data.
TINY_EFFECTIVE, EFFECTIVE_DROP = 0.05, 0.25
# A run whose NLL is a tenth below where it began learns, however few tokens its objective chooses.
MIN_TOTAL_IMPROVEMENT = 0.1
# The NLL rises: by a tenth, by 0.1 nats, and by three standard errors of the two halves' windows.
NLL_RISE, NLL_RISE_NATS, NUM_STANDARD_ERRORS = 0.1, 0.1, 3.0
# An alarm is over, and may fire again, after this many windows without its cause.
CLEAR_WINDOWS = 5

_CLASS_ALARMS = {"eos": "end-of-sequence", "template": "template"}
_LACK = {"eos": "to stop", "template": "the output format"}


@dataclass(frozen=True)
class Alarm:
    """One alarm.

    Attributes:
        kind: `eos_starvation`, `template_starvation`, `effective_tokens_collapse` or `nll_rises`.
        step: Optimiser step at which it fired.
        measured: The numbers it rests on, by name.
        message: They and what they mean, in a sentence or two.
        advice: What to try.
    """

    kind: str
    step: int
    measured: dict[str, float]
    message: str
    advice: str

    def record(self) -> dict[str, Any]:
        """For files."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.kind} at step {self.step}: {self.message} Try: {self.advice}"


@dataclass(frozen=True)
class _Half:
    """Means over neighbouring windows: of all tokens with equal shares, of a class by its tokens."""

    nll: float
    nll_error: float
    objective: float
    effective: float
    weight: float
    classes: dict[str, dict[str, float]]

    @classmethod
    def of(cls, windows: Sequence[Mapping[str, Any]]) -> _Half:
        means = {
            key: sum(window["means"][key] for window in windows) / len(windows)
            for key in ("nll", "objective", "effective_tokens", "weight")
        }
        variance = sum((window["means"]["nll"] - means["nll"]) ** 2 for window in windows) / (len(windows) - 1)
        classes = {}
        for name in _CLASS_ALARMS:
            rows = [window["classes"][name] for window in windows if name in window["classes"]]
            if tokens := sum(row["tokens"] for row in rows):
                of_class = {
                    key: sum(row[key] * row["tokens"] for row in rows) / tokens for key in ("p", "weight", "nll")
                }
                classes[name] = {"tokens": tokens, **of_class}
        return cls(
            nll=means["nll"],
            nll_error=math.sqrt(variance / len(windows)),
            objective=means["objective"],
            effective=means["effective_tokens"],
            weight=means["weight"],
            classes=classes,
        )


class Alarms:
    """Watches one training run.

    Args:
        warmup_steps: Steps of learning-rate warm-up; a class that does not improve before their end is not starving.
    """

    def __init__(self, *, warmup_steps: int = 0) -> None:
        self._warmup_steps = warmup_steps
        self._windows: list[Mapping[str, Any]] = []
        self._first: _Half | None = None
        self._best: _Half | None = None
        self._quiet: dict[str, int] = {}

    def replay(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take in the windows that a resumed run logged before; what fired then does not fire again."""
        for row in rows:
            self.feed(row)

    def feed(self, row: Mapping[str, Any]) -> list[Alarm]:
        """Take in one logging window of training; returns the alarms that begin with it.

        Args:
            row: `step`; `means` with at least nll, objective, effective_tokens and weight; `classes` by name, each
                with tokens, p, weight and nll.
        """
        if not row["means"]:
            return []
        self._windows.append(row)
        while len(self._windows) > MIN_WINDOWS and self._span(1) >= MIN_STEPS:
            self._windows.pop(0)
        if len(self._windows) < MIN_WINDOWS or self._span(0) < MIN_STEPS:
            return []
        middle = len(self._windows) // 2
        earlier, recent = _Half.of(self._windows[:middle]), _Half.of(self._windows[middle:])
        self._first = self._first or earlier
        self._best = earlier if self._best is None or earlier.nll < self._best.nll else self._best
        step = int(row["step"])
        found = [_effective_tokens(step, self._first, recent), _nll_rises(step, self._best, recent)]
        if self._windows[0]["step"] >= self._warmup_steps:
            found += [_starvation(step, name, earlier, recent) for name in _CLASS_ALARMS]
        return self._begun([alarm for alarm in found if alarm is not None])

    def _span(self, first: int) -> int:
        """Optimiser steps from the window `first` to the last."""
        return int(self._windows[-1]["step"] - self._windows[first]["step"])

    def _begun(self, alarms: list[Alarm]) -> list[Alarm]:
        begun = [alarm for alarm in alarms if alarm.kind not in self._quiet]
        causes = {alarm.kind for alarm in alarms}
        quiet = {kind: 0 if kind in causes else self._quiet[kind] + 1 for kind in self._quiet}
        self._quiet = {kind: count for kind, count in quiet.items() if count < CLEAR_WINDOWS}
        self._quiet.update(dict.fromkeys(causes, 0))
        return begun


def _starvation(step: int, name: str, earlier: _Half, recent: _Half) -> Alarm | None:
    before, now = earlier.classes.get(name), recent.classes.get(name)
    if before is None or now is None or min(before["tokens"], now["tokens"]) < MIN_CLASS_TOKENS:
        return None
    is_light = now["weight"] < STARVING_WEIGHT * recent.weight
    is_improving = now["nll"] <= (1 - MIN_IMPROVEMENT) * before["nll"]
    if not is_light or is_improving or now["p"] >= LEARNED_P:
        return None
    return Alarm(
        f"{name}_starvation",
        step,
        {
            "tokens": now["tokens"],
            "p": now["p"],
            "weight": now["weight"],
            "weight_of_all_tokens": recent.weight,
            "nll_before": before["nll"],
            "nll": now["nll"],
        },
        f"the last {now['tokens']:.0f} {_CLASS_ALARMS[name]} tokens have mean p {now['p']:.2g} and mean weight "
        f"{now['weight']:.2g} (all tokens: {recent.weight:.2g}), and their NLL went from {before['nll']:.2f} to "
        f"{now['nll']:.2f} nats. They get hardly any gradient: the model is not learning {_LACK[name]}.",
        ("full_weight_tokens: [eos]" if name == "eos" else "full_weight_tokens with the markers of the template")
        + "; floor: 0.1; loss_type: mix; or a route that trains these data with sft.",
    )


def _effective_tokens(step: int, first: _Half, recent: _Half) -> Alarm | None:
    is_low = recent.effective < TINY_EFFECTIVE or recent.effective < EFFECTIVE_DROP * first.effective
    if not is_low or recent.nll <= (1 - MIN_TOTAL_IMPROVEMENT) * first.nll:
        return None
    return Alarm(
        "effective_tokens_collapse",
        step,
        {
            "effective_tokens_first": first.effective,
            "effective_tokens": recent.effective,
            "nll_first": first.nll,
            "nll": recent.nll,
        },
        f"{recent.effective:.1%} of the tokens carry the gradient ({first.effective:.1%} at the beginning), and the "
        f"NLL went from {first.nll:.2f} to {recent.nll:.2f} nats. The objective has given most of the data up.",
        "a lower learning rate; floor: 0.1; loss_type: mix; or a route that trains data new to the model with sft.",
    )


def _nll_rises(step: int, best: _Half, recent: _Half) -> Alarm | None:
    rise = recent.nll - best.nll
    is_rising = rise > max(
        NLL_RISE * best.nll, NLL_RISE_NATS, NUM_STANDARD_ERRORS * math.hypot(best.nll_error, recent.nll_error)
    )
    if not is_rising or recent.objective > (1 - MIN_IMPROVEMENT) * best.objective:
        return None
    return Alarm(
        "nll_rises",
        step,
        {
            "nll_lowest": best.nll,
            "nll": recent.nll,
            "objective_then": best.objective,
            "objective": recent.objective,
        },
        f"the true NLL rose from {best.nll:.2f} to {recent.nll:.2f} nats while the objective fell from "
        f"{best.objective:.3g} to {recent.objective:.3g}: it improves by giving unlikely tokens up. Some of this "
        "belongs to DFT; generated answers show whether it is too much.",
        "an evaluation by generation now; a lower learning rate; floor: 0.1; loss_type: mix; or a route that trains "
        "facts and fixed answers with sft.",
    )
