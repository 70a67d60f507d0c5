"""Session-wide cooldown after a 429."""

from __future__ import annotations

import asyncio
import logging
import math
import random

from ..settings import MAX_RETRY_AFTER

RESTART_SECONDS = 1.0
"""Seconds after a cooldown in which requests are sent one by one."""
_RESTART_INTERVAL = 0.05
"""Seconds between these requests."""
_MAX_OWN_COOLDOWN = 30.0
_MAX_DOUBLINGS = 5
MIN_SLEEP = 0.001
"""A sleep may end early by less than the clock's resolution: without this, it would spin."""

_log = logging.getLogger("moltin_jobs.http")


class Cooldown:
    """Period in which no request is sent.

    It lasts 1, 2, 4, … 30 seconds, one step for each burst of 429s in a row. A longer
    ``Retry-After`` replaces that. Up to a fifth is added. It never exceeds 120 seconds.
    """

    def __init__(self) -> None:
        self.count = 0
        """Number of cooldowns so far."""
        self.ends_at = -math.inf
        """Moment of the loop's clock."""
        self._started_at = -math.inf
        self._next_send_at = -math.inf
        self.bursts = 0
        """Bursts of 429s in a row."""

    async def wait(self) -> None:
        """Return when a request may be sent."""
        loop = asyncio.get_running_loop()
        while (seconds := self._next_send_at - loop.time()) > 0:  # noqa: ASYNC110 (it may move)
            await asyncio.sleep(max(seconds, MIN_SLEEP))

    def space_requests(self, now: float) -> None:
        """Space the requests that have waited for the end of the cooldown."""
        if now < self.ends_at + RESTART_SECONDS:
            self._next_send_at = now + _RESTART_INTERVAL

    def on_success(self, sent_at: float) -> None:
        """Reset the count of consecutive bursts after a response other than 429."""
        if sent_at > self._started_at:
            self.bursts = 0

    def start(self, sent_at: float, retry_after: float | None) -> None:
        """Handle a 429 of a request that was sent at ``sent_at``."""
        now = asyncio.get_running_loop().time()
        if sent_at <= self._started_at:  # it belongs to the burst that started the cooldown
            length = min(retry_after or 0.0, MAX_RETRY_AFTER)
        else:
            self.bursts += 1
            self._started_at = now
            self.count += 1
            length = cooldown_seconds(self.bursts, retry_after)
            message = "rate limit exceeded (429), no request is sent for %.1f s"
            _log.warning(message, length, extra={"retry_in": length})
        self.ends_at = max(self.ends_at, now + length)
        self._next_send_at = max(self._next_send_at, self.ends_at)


def cooldown_seconds(bursts: int, retry_after: float | None) -> float:
    """Return the length of the cooldown after ``bursts`` consecutive bursts (at least 1)."""
    own = min(2.0 ** min(bursts - 1, _MAX_DOUBLINGS), _MAX_OWN_COOLDOWN)
    seconds = max(own, retry_after or 0.0)
    return min(seconds + random.uniform(0, seconds / 5), MAX_RETRY_AFTER)  # noqa: S311 (jitter)
