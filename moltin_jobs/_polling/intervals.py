"""Intervals of polls and retries. Pure arithmetic, with the generators and jitter of backoff.

Its decorators are not used: they return the last value when they run out, measure on the wall
clock, and never interrupt a call that hangs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Generator

import backoff

from ..settings import Polling, Retry


class Intervals:
    """The nominal intervals of one setting, computed once for all waits that use it."""

    def __init__(self, initial_interval: float, multiplier: float, max_interval: float) -> None:
        self._max_interval = max_interval
        self._intervals: list[float] = []
        self._rest: Generator[float, None, None] = backoff.expo(
            base=multiplier, factor=initial_interval, max_value=max_interval
        )
        next(self._rest)  # the first value is for the decorators

    def nominal(self, number: int) -> float:
        """Return interval ``number``, from 0."""
        intervals = self._intervals
        while len(intervals) <= number:
            if intervals and intervals[-1] >= self._max_interval:
                return self._max_interval
            try:
                intervals.append(next(self._rest))
            except OverflowError:  # the power is too large for a float
                intervals.append(self._max_interval)
        return intervals[number]


class PollingIntervals(Intervals):
    """Intervals between the polls of a wait."""

    def __init__(self, polling: Polling) -> None:
        super().__init__(polling.initial_interval, polling.multiplier, polling.max_interval)
        self._jitter = polling.jitter
        self.max_outage = math.inf if polling.max_outage is None else polling.max_outage
        """``Polling.max_outage`` in seconds."""

    def interval(self, number: int) -> float:
        """Return the interval after poll ``number`` of a state, plus or minus the jitter."""
        nominal = self.nominal(number)
        spread = self._jitter * nominal
        return nominal - spread + float(backoff.full_jitter(2 * spread))


class RetryIntervals(Intervals):
    """Intervals between the attempts of a request."""

    def __init__(self, retry: Retry) -> None:
        super().__init__(retry.initial_interval, 2, retry.max_interval)

    def interval(self, number: int) -> float:
        """Return the interval after retry ``number``, between half of it and all of it."""
        half = self.nominal(number) / 2
        return half + float(backoff.full_jitter(half))


polling_intervals = functools.lru_cache(maxsize=128)(PollingIntervals)
"""Return the intervals of a `Polling`, shared by all waits with an equal one."""
retry_intervals = functools.lru_cache(maxsize=128)(RetryIntervals)
"""Return the intervals of a `Retry`, shared in the same way."""
