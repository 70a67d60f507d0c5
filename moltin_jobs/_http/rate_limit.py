"""Permission to send each attempt: the rate limit, as the server sees it, and the cooldown."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import inspect
import math
from collections.abc import AsyncIterator

from .._tasks.semaphore import Semaphore
from ..errors import ConfigurationError, describe
from ..settings import RateLimiter
from .cooldown import MIN_SLEEP, RESTART_SECONDS, Cooldown

_SLOT_SECONDS = 1.001
"""A second, and one millisecond because clocks round."""


class Throttle:
    """Rate limit and cooldown of one session.

    A slot is held from before an attempt is sent until one second after its response has begun or
    it has failed. So in no second do more than ``rate_limit`` requests arrive at the server.
    Limiting sends is not enough: after slow handshakes, many requests may arrive at once.
    """

    def __init__(self, rate_limit: int | RateLimiter | None) -> None:
        self._limiter: RateLimiter | None = None
        self._never_used: float = math.inf
        if isinstance(rate_limit, int) and not isinstance(rate_limit, bool) and rate_limit >= 1:
            self._never_used = rate_limit
        elif callable(getattr(rate_limit, "acquire", None)):
            self._limiter = rate_limit  # type: ignore[assignment]  # checked in the line above
        elif rate_limit is not None:
            raise ConfigurationError(
                f"rate_limit must be an int of at least 1, None, or an object with 'async def "
                f"acquire()', not {describe(rate_limit)}"
            )
        self._is_counted = self._never_used < math.inf
        self._reusable_at: collections.deque[float] = collections.deque()
        self._released = asyncio.Event()
        pause = getattr(rate_limit, "pause", None)
        self._pause = pause if inspect.iscoroutinefunction(pause) else None
        self._head_of_queue = Semaphore(1)
        self.cooldown = Cooldown()
        self.queued = 0
        """Attempts in the queue."""
        self.held = 0
        """Slots held by attempts whose response has not begun."""

    def try_acquire(self, now: float) -> bool:
        """Permit an attempt if it can be sent at once, and no other one is queued."""
        if self.queued or self._limiter is not None:
            return False
        if now < self.cooldown.ends_at + RESTART_SECONDS:
            return False
        if self._reusable_at and self._reusable_at[0] <= now:
            self._reusable_at.popleft()
        elif self._never_used:
            self._never_used -= 1
        else:
            return False
        self.held += 1
        return True

    @contextlib.asynccontextmanager
    async def queue(self) -> AsyncIterator[None]:
        """Wait in the queue, first come, first served. One attempt at a time is in the block."""
        self.queued += 1
        try:
            await self._head_of_queue.acquire()
            try:
                yield
            finally:
                self._head_of_queue.release()
        finally:
            self.queued -= 1

    async def acquire(self) -> float:
        """Wait until an attempt is permitted, and return that moment. `release` must follow.

        The caller is at the head of the queue, or sends the token request for that attempt.
        """
        if self._limiter is not None:
            await self._limiter.acquire()
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
        if self._is_counted:
            if not self._reusable_at:
                self._released.set()
            self._reusable_at.append(now + _SLOT_SECONDS)

    async def share_cooldown(self) -> None:
        """Inform the `PausableRateLimiter` of the cooldown."""
        seconds = self.cooldown.ends_at - asyncio.get_running_loop().time()
        if self._pause is not None and seconds > 0:
            await self._pause(seconds)

    async def _wait_for_slot(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._never_used:
            if not self._reusable_at:
                self._released.clear()
                await self._released.wait()
            elif (seconds := self._reusable_at[0] - loop.time()) > 0:
                await asyncio.sleep(max(seconds, MIN_SLEEP))
            else:
                self._reusable_at.popleft()
                return
        self._never_used -= 1
