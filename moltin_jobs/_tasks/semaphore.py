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
        self._permits = permits
        self.taken = 0
        """Permits that are taken."""
        self.waiting = 0
        """Callers that wait for a permit."""
        self._waiters: collections.deque[asyncio.Future[None]] = collections.deque()

    def try_acquire(self) -> bool:
        """Take a permit if one is free and no waiter is queued."""
        if self.taken < self._permits and not self._waiters:
            self.taken += 1
            return True
        return False

    async def acquire(self) -> None:
        """Take a permit, in the order of the calls."""
        if self.try_acquire():
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self.waiting += 1
        try:
            await waiter
        except BaseException:
            # The permit may have been given before the cancellation.
            if waiter.done() and not waiter.cancelled():
                self.release()
            else:
                self.waiting -= 1
            raise

    def release(self) -> None:
        """Give a permit back, to the first waiter if there is one."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                self.waiting -= 1
                return
        self.taken -= 1

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(self, *_: object) -> None:
        self.release()
