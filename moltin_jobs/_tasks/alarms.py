"""Alarms of one session: one heap with one timer, instead of a timer for each sleeping wait."""

from __future__ import annotations

import asyncio
import heapq
import math
from typing import Protocol

_MIN_STALE_ENTRIES = 64
"""Entries of cleared or replaced alarms that are always tolerated. Without this minimum, a small
heap would be compacted all the time."""


class AlarmTarget(Protocol):
    """Object that has at most one alarm at a time."""

    alarm_number: int
    """Number of the alarm that is set, or 0. Only `Alarms` writes it."""

    def on_alarm(self) -> None:
        """Handle the alarm."""


class Alarms:
    """Call `AlarmTarget.on_alarm` at given moments of the loop's clock."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, AlarmTarget]] = []
        self._last_number = 0
        self._active = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    def set(self, target: AlarmTarget, when: float) -> None:
        """Set the alarm of ``target``, which replaces its previous alarm."""
        if target.alarm_number:
            self.clear(target)
        self._active += 1
        self._last_number += 1
        target.alarm_number = self._last_number
        heapq.heappush(self._heap, (when, self._last_number, target))
        if when < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = when
            self._timer = asyncio.get_running_loop().call_at(when, self._fire)

    def clear(self, target: AlarmTarget) -> None:
        """Remove the alarm of ``target``, if it has one."""
        if target.alarm_number:
            target.alarm_number = 0
            self._active -= 1
            if len(self._heap) > 2 * self._active + _MIN_STALE_ENTRIES:
                self._compact()

    def stop(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, math.inf

    def _compact(self) -> None:
        # Cleared and replaced alarms stay in the heap until their moment comes. With long timeouts
        # they would fill it.
        self._heap[:] = [entry for entry in self._heap if entry[2].alarm_number == entry[1]]
        heapq.heapify(self._heap)

    def _fire(self) -> None:
        loop = asyncio.get_running_loop()
        # The loop may call a timer early by up to the clock's resolution. Treat the alarm for which
        # the timer was set as due.
        now = max(loop.time(), self._timer_at)
        # -inf keeps `set` from starting a timer before the `finally` below does.
        self._timer, self._timer_at = None, -math.inf
        heap = self._heap
        try:
            while heap and (heap[0][0] <= now or heap[0][2].alarm_number != heap[0][1]):
                _, number, target = heapq.heappop(heap)
                if target.alarm_number == number:
                    target.alarm_number = 0
                    self._active -= 1
                    target.on_alarm()
        finally:
            self._timer_at = heap[0][0] if heap else math.inf
            if heap:
                self._timer = loop.call_at(self._timer_at, self._fire)
