"""Permission to send each attempt: the rate limit, as the server sees it, and the cooldown."""

from __future__ import annotations

import asyncio
import collections
import inspect
import logging
import math
import random
from typing import Any

from .._tasks.semaphore import Semaphore
from .._tasks.user_code import run_user_code
from ..settings import MAX_RETRY_AFTER, RateLimiter, is_count, require

_SLOT_SECONDS = 1.001
"""Seconds from the release of a slot to its next use. The millisecond covers rounded clocks."""
_RESTART_SECONDS = 1.0
"""Seconds after a cooldown in which requests are sent one by one."""
_RESTART_INTERVAL = 0.05
"""Seconds between the requests that are sent one by one after a cooldown."""
_MAX_OWN_COOLDOWN = 30.0
"""Longest cooldown in seconds without a ``Retry-After``."""
_MAX_DOUBLINGS = 5
"""Largest exponent for the length of a cooldown. Without a limit, 2.0 ** 1024 would overflow."""
_MIN_SLEEP = 0.001
"""Shortest sleep in seconds. A sleep may end slightly early (by less than the clock's resolution).
Without a minimum, the loop around it would spin on the remainder."""

_log = logging.getLogger("moltin_jobs.http")


class Throttle:
    """Rate limit and cooldown of one session.

    A slot is taken before an attempt is sent, and becomes free one second after the response has
    begun or the attempt has failed. So at most ``rate_limit`` requests arrive at the server in any
    second. Limiting sends is not enough: after slow handshakes, many requests may arrive together.
    """

    def __init__(self, rate_limit: int | RateLimiter | None) -> None:
        self._limiter: Any = rate_limit if hasattr(rate_limit, "acquire") else None
        self._unused_slots = rate_limit if is_count(rate_limit) else math.inf
        """Slots that no attempt has used so far."""
        is_valid = rate_limit is None or is_count(rate_limit) or self._limiter is not None
        expected = "an int of at least 1, None, or an object with 'async def acquire()'"
        require(is_valid, "rate_limit", expected, rate_limit)
        self._reusable_at: collections.deque[float] = collections.deque()
        self._released = asyncio.Event()
        self.head_of_queue = Semaphore(1)
        """Queue of the attempts that cannot be sent immediately. The first of them holds the only
        permit."""
        self.cooldown = Cooldown()
        self.held = 0
        """Slots held by attempts whose response has not begun."""

    @property
    def queued(self) -> int:
        """Number of attempts in the queue."""
        return self.head_of_queue.taken + self.head_of_queue.waiting

    def try_acquire(self, now: float) -> bool:
        """Permit an attempt if it can be sent immediately and no other attempt is queued."""
        if self.head_of_queue.taken or self._limiter is not None:
            return False
        if now < self.cooldown.ends_at + _RESTART_SECONDS:
            return False
        if self._reusable_at and self._reusable_at[0] <= now:
            self._reusable_at.popleft()
        elif self._unused_slots:
            self._unused_slots -= 1
        else:
            return False
        self.held += 1
        return True

    async def acquire(self) -> float:
        """Wait until an attempt is permitted, and return that moment. `release` must follow.

        Only the attempt at the head of the queue calls this, or the token request that it needs.
        """
        if self._limiter is not None:
            await run_user_code(self._limiter.acquire())
            while asyncio.get_running_loop().time() < self.cooldown.ends_at:
                await self.cooldown.wait()
                # The permission was for a moment that has passed.
                await run_user_code(self._limiter.acquire())
        else:
            await self._wait_for_slot()
        self.held += 1
        try:
            await self.cooldown.wait()
        except BaseException:
            self.release(asyncio.get_running_loop().time())
            raise
        now = asyncio.get_running_loop().time()
        self.cooldown.space_requests(now)
        return now

    def release(self, now: float) -> None:
        """Free the slot of a response that has begun, or of an attempt that has failed."""
        self.held -= 1
        if self._unused_slots < math.inf:
            if not self._reusable_at:
                self._released.set()
            self._reusable_at.append(now + _SLOT_SECONDS)

    async def share_cooldown(self) -> None:
        """Inform a `PausableRateLimiter` of the cooldown."""
        seconds = self.cooldown.ends_at - asyncio.get_running_loop().time()
        if seconds > 0 and callable(getattr(self._limiter, "pause", None)):
            # Only the result shows whether `pause` is async: it may be a partial or be decorated.
            result = self._limiter.pause(seconds)
            if inspect.isawaitable(result):
                await run_user_code(result)

    async def _wait_for_slot(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._unused_slots:
            if not self._reusable_at:
                self._released.clear()
                await self._released.wait()
            elif (seconds := self._reusable_at[0] - loop.time()) > 0:
                await asyncio.sleep(max(seconds, _MIN_SLEEP))
            else:
                self._reusable_at.popleft()
                return
        self._unused_slots -= 1


class Cooldown:
    """Period in which no request is sent.

    A burst is the 429 that starts a cooldown, with the other 429s to requests sent before it. The
    cooldown lasts 1 s after the first burst and doubles with each consecutive one, up to 30 s. A
    longer ``Retry-After`` replaces that length. Up to a fifth is added. The limit is 120 s.
    """

    def __init__(self) -> None:
        self.count = 0
        """Number of cooldowns so far."""
        self.ends_at = -math.inf
        """Moment of the loop's clock at which the last cooldown ends."""
        self._started_at = -math.inf
        self._next_send_at = -math.inf
        self.bursts = 0
        """Number of consecutive bursts."""

    async def wait(self) -> None:
        """Return when a request may be sent."""
        loop = asyncio.get_running_loop()
        # A loop, since a 429 during the sleep postpones the moment.
        while (seconds := self._next_send_at - loop.time()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(max(seconds, _MIN_SLEEP))

    def space_requests(self, now: float) -> None:
        """Space the requests that have waited for the end of the cooldown."""
        if now < self.ends_at + _RESTART_SECONDS:
            self._next_send_at = now + _RESTART_INTERVAL

    def on_success(self, sent_at: float) -> None:
        """Reset the count of consecutive bursts after a response other than 429."""
        if sent_at > self._started_at:
            self.bursts = 0

    def on_429(self, sent_at: float, retry_after: float | None) -> None:
        """Handle a 429 of a request that was sent at ``sent_at``."""
        now = asyncio.get_running_loop().time()
        if sent_at <= self._started_at:  # in the burst that started the cooldown
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
