"""When the next request may be sent: the rate limit, and the pause that a 429 imposes on all.

A request is granted its send at once where nothing stands in the way. Else it takes its turn in
the line, and there waits out a pause, gets its token, and is granted its send. A token request
skips the line, so that no one who holds the turn waits for one behind.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import inspect
import logging
import math
from collections.abc import AsyncIterator
from typing import Protocol

from .._polling.intervals import LONGEST_PAUSE, pause_length
from ..errors import ConfigurationError, shown

_log = logging.getLogger("moltin_jobs")
_SLOT_SECONDS = 1.001  # a hair over the second: clocks round
_RESTART_SECONDS = 1.0
_RESTART_SPACING = 0.05
_TICK = 0.001  # a sleep may end early by less than the clock can show; do not spin for it


class Limiter(Protocol):
    """What ``rate_limit`` may be, so that several processes can share one store's budget.

    If it also has ``async def pause(seconds)``, it is told for how long nothing may be sent.
    """

    async def acquire(self) -> object:
        """Return when one more request may be sent; it is called once for each."""


class _Slots:
    """A slot is held from before a send until one second after its answer began or it failed.

    So no window of one second sees more than ``rate`` requests arrive at the server, however
    long each is on its way. Counting sends alone would not do: handshakes bunch them.
    """

    def __init__(self, rate: int) -> None:
        self._unused = rate
        self._free_at: collections.deque[float] = collections.deque()
        self._settled = asyncio.Event()

    def take(self, now: float) -> bool:
        """Take a slot if there is one."""
        if self._free_at and self._free_at[0] <= now:
            self._free_at.popleft()
        elif self._unused:
            self._unused -= 1
        else:
            return False
        return True

    async def acquire(self) -> None:
        """Take a slot as soon as there is one; one caller at a time, the head of the queue."""
        while not self.take(asyncio.get_running_loop().time()):
            while not self._free_at:
                self._settled.clear()
                await self._settled.wait()
            await _sleep_until(self._free_at[0])

    def release(self) -> None:
        if not self._free_at:
            self._settled.set()
        self._free_at.append(asyncio.get_running_loop().time() + _SLOT_SECONDS)


async def _sleep_until(moment: float) -> None:
    loop = asyncio.get_running_loop()
    while (wait := moment - loop.time()) > 0:  # noqa: ASYNC110 (time is what ends it)
        await asyncio.sleep(max(wait, _TICK))


class Pacer:
    """Decides, for one session, when each request may be sent."""

    def __init__(self, rate_limit: int | Limiter | None) -> None:
        self._slots: _Slots | None = None
        self._limiter: Limiter | None = None
        if isinstance(rate_limit, int) and not isinstance(rate_limit, bool) and rate_limit >= 1:
            self._limiter = self._slots = _Slots(rate_limit)
        elif callable(getattr(rate_limit, "acquire", None)):
            self._limiter = rate_limit  # type: ignore[assignment]  # the line above is the check
        elif rate_limit is not None:
            raise ConfigurationError(
                f"rate_limit must be an int from 1, None, or an object with 'async def acquire()', "
                f"not {shown(rate_limit)}"
            )
        pause = getattr(rate_limit, "pause", None)
        self._share_pause = pause if inspect.iscoroutinefunction(pause) else None
        self._line = asyncio.Lock()
        self._in_line = 0
        self._head = asyncio.Lock()
        self._paused_from = self._paused_until = self._not_before = -math.inf
        self._storm = 0

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Stand in the line; within, it is the caller's turn."""
        self._in_line += 1
        try:
            async with self._line:
                yield
        finally:
            self._in_line -= 1

    def grant_nowait(self, now: float) -> bool:
        """Grant one request if it may be sent at once, which is ``now``, and nobody waits."""
        if self._in_line or self._head.locked() or now < self._paused_until + _RESTART_SECONDS:
            return False
        return self._limiter is None or (self._slots is not None and self._slots.take(now))

    async def pause_over(self) -> None:
        """Return when no pause forbids a send."""
        while self._not_before > asyncio.get_running_loop().time():
            await _sleep_until(self._not_before)

    async def grant(self) -> float:
        """Return, once one request may be sent, the time; `settle` must follow."""
        async with self._head:
            if self._limiter is not None:
                await self._limiter.acquire()
            try:
                await self.pause_over()
            except BaseException:
                self.settle()
                raise
            now = asyncio.get_running_loop().time()
            if now < self._paused_until + _RESTART_SECONDS:
                # Whoever waited out the pause would otherwise be sent in one burst.
                self._not_before = now + _RESTART_SPACING
            return now

    def settle(self) -> None:
        """Say that a granted request was answered, headers at least, or failed."""
        if self._slots is not None:
            self._slots.release()

    def answered(self, sent_at: float) -> None:
        """Say that a request, granted at ``sent_at``, met no 429: the next one is a new storm."""
        if sent_at > self._paused_from:
            self._storm = 0

    def pause(self, sent_at: float, retry_after: float | None) -> None:
        """Stop all sends because a request, granted at ``sent_at``, met a 429."""
        now = asyncio.get_running_loop().time()
        if sent_at <= self._paused_from:  # the storm that the present pause answers
            until = now + min(retry_after or 0.0, LONGEST_PAUSE)
        else:
            self._storm += 1
            self._paused_from = now
            length = pause_length(self._storm, retry_after)
            until = now + length
            _log.warning(
                "rate limit met (429): nothing is sent for %.1f s", length, extra={"wait": length}
            )
        self._paused_until = max(self._paused_until, until)
        self._not_before = max(self._not_before, until)

    async def share_pause(self) -> None:
        """Tell the limiter of the pause, if it wants to know, for others who share it."""
        left = self._paused_until - asyncio.get_running_loop().time()
        if self._share_pause is not None and left > 0:
            await self._share_pause(left)
