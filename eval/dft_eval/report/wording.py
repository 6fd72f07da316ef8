"""Shares, differences and their intervals as a report words them."""

from __future__ import annotations

from typing import Any

from dft_eval.metrics import Estimate


def percent(share: float) -> str:
    """A share in percent, `45.4`."""
    return f"{100 * share:.1f}"


def interval(estimate: Estimate) -> str:
    """The interval of a share in percent, `39.9 to 51.0`; empty where there is none."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{percent(estimate.low)} to {percent(estimate.high)}"


def points(share: float) -> str:
    """A difference in points, `+9.8`."""
    return f"{100 * share:+.1f}"


def points_interval(estimate: Estimate) -> str:
    """The interval of a difference in points, `+3.0 to +16.7`; `no interval` where there is none."""
    if estimate.low is None or estimate.high is None:
        return "no interval"
    return f"{points(estimate.low)} to {points(estimate.high)}"


def setting(value: Any) -> str:
    """A setting's value, numbers as short as they are exact: `5e-05`."""
    return f"{value:g}" if isinstance(value, float) else str(value)
