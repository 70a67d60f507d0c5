"""What is in progress in one session, each piece of which can be ended from outside.

It does what ``asyncio.timeout`` does, for less: all attempts are given the same time, so they run
out in the order in which they began, and one timer serves them all.
"""

from __future__ import annotations

import asyncio
import collections
from types import TracebackType


class Scopes:
    """All that is in progress in one session, within one event loop."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        """What an attempt is given."""
        self.running: set[Scope] = set()
        self.due: collections.deque[tuple[float, Scope]] = collections.deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._all_left = asyncio.Event()

    def check(self) -> None:
        """Raise `RuntimeError` where nothing can be begun (any more)."""
        self._check_loop()
        if self._closed:
            raise RuntimeError("this JobsSession is closed: make a new one")

    def _check_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError(
                "this JobsSession belongs to another event loop: make one session for each loop"
            )

    async def close(self) -> None:
        """End all scopes, and return when all have been left."""
        self._check_loop()
        if not self._closed:
            self._closed = True
            for scope in self.running:
                scope.end()
        if self.running:
            await self._all_left.wait()
        if self._timer is not None:
            self._timer.cancel()

    def left(self) -> None:
        """Say that a scope has been left."""
        if self._closed and not self.running:
            self._all_left.set()
        due = self.due
        while due and due[0][0] != due[0][1].until:
            due.popleft()

    def expire(self, scope: Scope, moment: float) -> None:
        """End ``scope`` at ``moment``, which is not before any that was given earlier."""
        self.due.append((moment, scope))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(moment, self._expire_due)

    def _expire_due(self) -> None:
        loop = asyncio.get_running_loop()
        while self.due and self.due[0][0] <= loop.time():
            moment, scope = self.due.popleft()
            if scope.until == moment:
                scope.expired = True
                scope.end()
        self._timer = loop.call_at(self.due[0][0], self._expire_due) if self.due else None


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
        self.until: float | None = None

    def start(self, now: float) -> None:
        """Let the time of an attempt begin."""
        self.until = now + self._scopes.seconds
        self._scopes.expire(self, self.until)

    def end(self) -> None:
        """Have the block left."""
        if not self._ended:
            self._ended = True
            self._task.cancel()

    def __enter__(self) -> None:
        self._scopes.check()
        task = asyncio.current_task()
        assert task is not None, "asyncio runs coroutines in tasks"  # noqa: S101 (for mypy)
        self._task, self._cancelling = task, task.cancelling()
        self._scopes.running.add(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self.until = None
        self._scopes.running.discard(self)
        self._scopes.left()
        # As asyncio.timeout tells its own cancellation from the caller's.
        ours = self._ended and self._task.uncancel() <= self._cancelling
        return ours and kind is asyncio.CancelledError


def closed() -> RuntimeError:
    """What a call raises that was in progress when its session was closed."""
    return RuntimeError("the JobsSession was closed while this call was in progress")
