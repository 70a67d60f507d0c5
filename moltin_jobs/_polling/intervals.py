"""Intervals of polls and retries, with the jitter of backoff.

The decorators of backoff are not used: they return the last value when they run out, measure on the
wall clock, and never interrupt a call that hangs.
"""

from __future__ import annotations

import backoff

from ..settings import Polling, Retry


def polling_interval(polling: Polling, number: int) -> float:
    """Return the interval after poll ``number`` of a state, from 0, plus or minus the jitter."""
    longest = _grow(polling.initial_interval, polling.multiplier, number, polling.max_interval)
    return longest * (1 - polling.jitter) + _random(2 * longest * polling.jitter)


def retry_interval(retry: Retry, number: int) -> float:
    """Return the interval after retry ``number``, from 0: between half of it and all of it."""
    half = _grow(retry.initial_interval, 2, number, retry.max_interval) / 2
    return half + _random(half)


def _grow(initial: float, multiplier: float, number: int, maximum: float) -> float:
    try:
        return min(initial * float(multiplier) ** number, maximum)
    except OverflowError:  # the power is too large for a float
        return maximum


def _random(maximum: float) -> float:
    return float(backoff.full_jitter(maximum))
