"""What is in progress in one session, each piece of which can be ended from outside.

It does what ``asyncio.timeout`` does, for less: all attempts are given the same time, so they run
out in the order in which they began, and one timer serves them all.
"""

from __future__ import annotations

import asyncio
import collections
import math
from types import TracebackType
from typing import Self


class Scopes:
    """All that is in progress in one session, within one event loop."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        """What an attempt is given."""
        self.running: set[Scope] = set()
        self.closed = False
        self.all_left = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._due: collections.deque[tuple[float, Scope]] = collections.deque()
        self._timer: asyncio.TimerHandle | None = None

    def check(self) -> None:
        """Raise `RuntimeError` where nothing can be begun (any more)."""
        if self._loop is not asyncio.get_running_loop():
            self._settle_in()
        if self.closed:
            raise RuntimeError("this JobsSession is closed: make a new one")

    def _settle_in(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not None and self._loop is not loop:
            raise RuntimeError(
                "this JobsSession belongs to another event loop: make one session for each loop"
            )
        self._loop = loop

    async def close(self) -> None:
        """End all scopes, and return when all have been left."""
        self._settle_in()
        if not self.closed:
            self.closed = True
            for scope in self.running:
                scope.end()
        if self.running:
            await self.all_left.wait()
        if self._timer is not None:
            self._timer.cancel()

    def expire(self, scope: Scope) -> None:
        """End ``scope`` when its time is over, which is not before any that began earlier."""
        due = self._due
        while due and due[0][0] != due[0][1].until:  # those that were left meanwhile
            due.popleft()
        due.append((scope.until, scope))
        if self._timer is None:
            self._arm()

    def _arm(self) -> None:
        self._timer = None
        if self._due:
            self._timer = asyncio.get_running_loop().call_at(self._due[0][0], self._end_due)

    def _end_due(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._due and self._due[0][0] <= now:
            moment, scope = self._due.popleft()
            if scope.until == moment:
                scope.expired = True
                scope.end()
        self._arm()


class Scope:
    """A ``with`` block that, when it was ended from outside, is left as if it had finished.

    What follows the block then asks why, and raises.
    """

    __slots__ = ("_cancelling", "_ended", "_scopes", "_task", "expired", "until")

    def __init__(self, scopes: Scopes) -> None:
        self._scopes = scopes
        self._ended = False
        self.expired = False
        """Whether its time ran out; if not, the session was closed."""
        self.until = math.inf
        """The moment of the loop's clock at which its time is over."""

    def start(self, now: float) -> None:
        """Let the time of an attempt begin."""
        self.until = now + self._scopes.seconds
        self._scopes.expire(self)

    def end(self) -> None:
        """Have the block left."""
        if not self._ended:
            self._ended = True
            self._task.cancel()

    def __enter__(self) -> Self:
        self._scopes.check()
        task = asyncio.current_task()
        assert task is not None, "asyncio runs coroutines in tasks"  # noqa: S101 (for mypy)
        self._task, self._cancelling = task, task.cancelling()
        self._scopes.running.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        scopes = self._scopes
        self.until = math.inf
        scopes.running.discard(self)
        if scopes.closed and not scopes.running:
            scopes.all_left.set()
        # As asyncio.timeout tells its own cancellation from the caller's.
        ours = self._ended and self._task.uncancel() <= self._cancelling
        del self._task  # what is due is kept for a while, and would keep the task
        return ours and kind is asyncio.CancelledError


def closed() -> RuntimeError:
    """What a call raises that was in progress when its session was closed."""
    return RuntimeError("the JobsSession was closed while this call was in progress")
