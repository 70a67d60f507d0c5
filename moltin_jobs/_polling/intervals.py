"""Intervals of polls and retries, with the jitter of backoff.

The decorators of backoff are not used: after the last attempt they return its value, they measure
on the wall clock, and they never interrupt a call that hangs.
"""

from __future__ import annotations

import backoff

from ..settings import Polling, Retry


def polling_interval(polling: Polling, number: int) -> float:
    """Return the interval after a poll, with jitter.

    ``number`` counts the polls in the same state, from 0.
    """
    mean = _grow(polling.initial_interval, polling.multiplier, number, polling.max_interval)
    return add_jitter(mean, polling)


def add_jitter(mean: float, polling: Polling) -> float:
    """Return an interval that differs from ``mean`` by up to the ``jitter`` of ``polling``."""
    return mean * (1 - polling.jitter) + random_up_to(2 * mean * polling.jitter)


def retry_interval(retry: Retry, number: int) -> float:
    """Return the interval after a failed attempt, with jitter, which shortens it by up to half.

    ``number`` counts the attempts, from 0.
    """
    half = _grow(retry.initial_interval, 2, number, retry.max_interval) / 2
    return half + random_up_to(half)


def _grow(initial: float, multiplier: float, number: int, maximum: float) -> float:
    try:
        return min(initial * float(multiplier) ** number, maximum)
    except OverflowError:  # the power is too large for a float
        return maximum


def random_up_to(maximum: float) -> float:
    """Return a random number from 0 to ``maximum``."""
    return float(backoff.full_jitter(maximum))
