"""Semaphore with a fair queue that thousands of waiters can leave at once."""

from __future__ import annotations

import asyncio
import collections


class Semaphore:
    """Like ``asyncio.Semaphore``, but a cancelled waiter costs constant time.

    asyncio's own removes a cancelled waiter from the middle of its queue, so that cancelling n
    waiters takes time proportional to n².
    """

    def __init__(self, permits: int) -> None:
        self._permits = self._free = permits
        self._waiters: collections.deque[asyncio.Future[None]] = collections.deque()

    def try_acquire(self) -> bool:
        """Take a permit if one is free and no waiter is queued."""
        if self._free and not self._waiters:
            self._free -= 1
            return True
        return False

    @property
    def taken(self) -> int:
        """Number of permits that are taken."""
        return self._permits - self._free

    async def acquire(self) -> None:
        """Take a permit, in the order of the calls."""
        if self.try_acquire():
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled():  # the permit came with the cancellation
                self.release()
            raise

    def release(self) -> None:
        """Give a permit back, to the first waiter if there is one."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(self, *_: object) -> None:
        self.release()
