"""Alarms on constructed runs: each fires on its cause, and not on what only resembles it."""

import math
import random

import pytest

from dft_plugin.monitor.alarms import Alarms

NUM_WINDOWS, STEPS = 60, 10


def eos(p, *, weight=None, nll=None, tokens=100):
    return {"tokens": tokens, "p": p, "weight": p if weight is None else weight, "nll": nll or -math.log(p)}


def row(t, *, nll=1.0, objective=0.2, effective=0.7, weight=0.6, **classes):
    means = {"nll": nll, "objective": objective, "effective_tokens": effective, "weight": weight}
    return {"step": (t + 1) * STEPS, "means": means, "classes": classes}


def fired(make_row, *, num_windows=NUM_WINDOWS, **options):
    alarms = Alarms(**options)
    return [(t, alarm) for t in range(num_windows) for alarm in alarms.feed(make_row(t))]


def kinds(make_row, **options):
    return [alarm.kind for _, alarm in fired(make_row, **options)]


def falling(t, start, end, *, time=15):
    return end + (start - end) * math.exp(-t / time)


def test_healthy_dft_is_silent():
    """NLL falls, the end of turn begins unlikely and is learned, windows are noisy."""
    rng = random.Random(0)

    def noisy():
        return math.exp(rng.gauss(0, 0.05))

    def healthy(t):
        nll = falling(t, 1.2, 0.7)
        return row(
            t,
            nll=nll * noisy(),
            objective=0.3 * nll * noisy(),
            effective=0.75 * noisy(),
            eos=eos(math.exp(-falling(t, 6.0, 0.1))),
            template=eos(0.99),
        )

    assert kinds(healthy) == []


def test_starving_end_of_sequence_fires_once():
    ((t, alarm),) = fired(lambda t: row(t, nll=falling(t, 1.2, 0.7), eos=eos(2e-4, nll=falling(t, 8.6, 8.5))))
    assert alarm.kind == "eos_starvation" and alarm.step == (t + 1) * STEPS and t < 10
    assert alarm.measured["p"] == pytest.approx(2e-4) and alarm.measured["nll"] == pytest.approx(8.55, abs=0.1)
    assert "end-of-sequence" in str(alarm) and "full_weight_tokens: [eos]" in str(alarm) and "floor" in alarm.advice
    assert set(alarm.record()) == {"kind", "step", "measured", "message", "advice"}


def test_starving_template():
    assert kinds(lambda t: row(t, eos=eos(0.9), template=eos(1e-3))) == ["template_starvation"]


@pytest.mark.parametrize(
    "make_row",
    [
        pytest.param(lambda t: row(t, objective=1.0, effective=1.0, weight=1.0, eos=eos(1e-4, weight=1.0)), id="sft"),
        pytest.param(lambda t: row(t, eos=eos(1e-4, weight=0.1)), id="floor of 0.1"),
        pytest.param(lambda t: row(t, weight=0.1, eos=eos(0.01, weight=0.006)), id="every weight is small"),
        pytest.param(lambda t: row(t, weight=0.3, eos=eos(0.999, weight=1e-6)), id="focal: learned, so light"),
        pytest.param(lambda t: row(t, eos=eos(1e-4, nll=9.0 * 0.985**t)), id="improving slowly"),
        pytest.param(lambda t: row(t, eos=eos(1e-4, tokens=2)), id="too few tokens to say"),
        pytest.param(lambda t: row(t), id="no such token"),
    ],
)
def test_not_starving(make_row):
    assert kinds(make_row) == []


def test_nobody_starves_during_warm_up():
    starving = lambda t: row(t, eos=eos(1e-4))  # noqa: E731
    ((early, _),) = fired(starving)
    ((late, _),) = fired(starving, warmup_steps=200)
    assert (early + 1) * STEPS < 200 and (late + 1) * STEPS > 200 + 40


def test_short_windows_wait_for_enough_steps():
    ((t, _),) = fired(lambda t: {**row(t, eos=eos(1e-4)), "step": t + 1})
    assert t + 1 == 41


def test_an_alarm_fires_again_after_it_cleared():
    def twice(t):
        return row(t, eos=eos(1e-4) if t < 20 or t >= 40 else eos(0.9))

    assert kinds(twice) == ["eos_starvation"] * 2


@pytest.mark.parametrize(
    ("effective", "nll", "expected"),
    [
        (lambda t: 0.7 if t < 20 else 0.15, lambda t: 1.0, ["effective_tokens_collapse"]),
        (lambda t: 0.03, lambda t: 3.0, ["effective_tokens_collapse"]),
        (lambda t: 0.7 if t < 20 else 0.2, lambda t: 1.0, []),  # a drop, not a collapse
        (lambda t: falling(t, 0.7, 0.03), lambda t: falling(t, 1.0, 0.1), []),  # learned: few tokens are left to learn
        (lambda t: 0.06, lambda t: 3.0, []),
    ],
)
def test_effective_tokens(effective, nll, expected):
    assert kinds(lambda t: row(t, effective=effective(t), nll=nll(t))) == expected


@pytest.mark.parametrize(
    ("nll", "objective", "expected"),
    [
        (lambda t: falling(t, 1.0, 1.6), lambda t: falling(t, 0.25, 0.1), ["nll_rises"]),
        # first it falls, then it rises
        (lambda t: abs(t - 20) / 20 + 0.5, lambda t: falling(t, 0.25, 0.1), ["nll_rises"]),
        (lambda t: falling(t, 1.0, 1.6), lambda t: falling(t, 0.1, 0.25), []),  # both rise: no trade
        (lambda t: falling(t, 1.0, 1.05), lambda t: falling(t, 0.25, 0.1), []),  # by a twentieth
        (lambda t: falling(t, 0.10, 0.15), lambda t: falling(t, 0.05, 0.02), []),  # by 0.05 nats
        (lambda t: 1.0 + 0.6 * (t % 2), lambda t: falling(t, 0.25, 0.1), []),  # noise
    ],
)
def test_nll(nll, objective, expected):
    assert kinds(lambda t: row(t, nll=nll(t), objective=objective(t))) == expected


def test_a_resumed_run_goes_on():
    starving = [row(t, eos=eos(1e-4)) for t in range(40)]
    alarms = Alarms()
    alarms.replay(starving[:30])
    assert [alarm for window in starving[30:] for alarm in alarms.feed(window)] == []
    fresh = Alarms()
    fresh.replay(starving[:4])
    assert [alarm.kind for window in starving[4:] for alarm in fresh.feed(window)] == ["eos_starvation"]


def test_a_window_without_tokens_counts_for_nothing():
    assert Alarms().feed({"step": 1, "means": {}, "classes": {}}) == []
