"""Intervals of polls and retries. Pure arithmetic, with the generators and jitter of backoff.

Its decorators are not used: they return the last value when they run out, measure on the wall
clock, and never interrupt a call that hangs.
"""

from __future__ import annotations

import functools

import backoff

from ..settings import Polling, Retry


class Intervals:
    """Intervals of one setting, computed once for all waits that use it.

    Interval ``n`` is ``initial * multiplier ** n``, at most ``maximum``, times a random factor
    between ``shortest`` and ``longest``.
    """

    def __init__(
        self, initial: float, multiplier: float, maximum: float, *, shortest: float, longest: float
    ) -> None:
        self._maximum = maximum
        self._shortest = shortest
        self._spread = longest - shortest
        self._nominal: list[float] = []
        self._rest = backoff.expo(base=multiplier, factor=initial, max_value=maximum)
        next(self._rest)  # the first value is for the decorators

    def interval(self, number: int) -> float:
        """Return interval ``number``, from 0."""
        nominal = self._nominal_interval(number)
        return nominal * self._shortest + float(backoff.full_jitter(nominal * self._spread))

    def _nominal_interval(self, number: int) -> float:
        nominal = self._nominal
        while len(nominal) <= number:
            if nominal and nominal[-1] >= self._maximum:
                return self._maximum
            try:
                nominal.append(next(self._rest))
            except OverflowError:  # the power is too large for a float
                nominal.append(self._maximum)
        return nominal[number]


@functools.lru_cache(maxsize=128)
def polling_intervals(polling: Polling) -> Intervals:
    """Return the intervals of a `Polling`, shared by all waits with an equal one."""
    return Intervals(
        polling.initial_interval,
        polling.multiplier,
        polling.max_interval,
        shortest=1 - polling.jitter,
        longest=1 + polling.jitter,
    )


@functools.lru_cache(maxsize=128)
def retry_intervals(retry: Retry) -> Intervals:
    """Return the intervals of a `Retry`, shared in the same way."""
    return Intervals(retry.initial_interval, 2, retry.max_interval, shortest=0.5, longest=1)
