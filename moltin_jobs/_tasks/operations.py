"""Operations in flight of one session, so that `close` and deadlines can end them."""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

import attrs

from ..errors import SessionClosedError
from .alarms import Alarms

T = TypeVar("T")

_CLOSED_DURING_CALL = "the JobsSession was closed during this call."


class DeadlineReached(Exception):  # noqa: N818 (internal: the caller raises a JobTimeoutError)
    """The deadline of a wait, a download or an export has passed."""


class Operations:
    """Registry of everything in progress in one session, which belongs to one event loop."""

    def __init__(self) -> None:
        self.alarms = Alarms()
        self.running: set[Operation] = set()
        self.tasks: set[asyncio.Task[Any]] = set()
        self.waiting = 0
        """Waits and retries in progress, which may be asleep and have no running operation."""
        self.closed = False
        self.loop: asyncio.AbstractEventLoop | None = None
        self._idle: asyncio.Future[None] | None = None

    def check(self) -> asyncio.AbstractEventLoop:
        """Return the running loop, which must be that of the session.

        Raises:
            SessionClosedError: the session is closed.
            RuntimeError: the session belongs to another event loop.
        """
        loop = asyncio.get_running_loop()
        if self.loop is not loop:
            if self.loop is not None:
                raise RuntimeError(
                    "this JobsSession belongs to another event loop: create one for each loop"
                )
            self.loop = loop
        if self.closed:
            raise SessionClosedError
        return loop

    def begin_wait(self) -> asyncio.AbstractEventLoop:
        """Count a wait until `end_wait`. Return the running loop."""
        loop = self.check()
        self.waiting += 1
        return loop

    def end_wait(self) -> None:
        """Count a call that has ended."""
        self.waiting -= 1
        self.notify_if_idle()

    def sleep_until(self, when: float) -> asyncio.Future[None]:
        """Return a future that is done at ``when``, or fails when the session is closed."""
        loop = self.check()
        sleep = Sleep(self.alarms, loop)
        self.alarms.set(sleep, when)
        return sleep

    def create_task(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine in a task of the session, whose exception need not be retrieved."""
        try:
            loop = self.check()
        except RuntimeError:
            coroutine.close()  # otherwise Python warns that it was never awaited
            raise
        task = loop.create_task(self._run(coroutine))
        self.tasks.add(task)
        task.add_done_callback(functools.partial(self._end_task, coroutine))
        return task

    async def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        try:
            return await coroutine
        finally:
            # A callback of the task runs one pass of the loop later, and `stats` would count it.
            self.tasks.discard(asyncio.current_task())
            self.notify_if_idle()

    def _end_task(self, coroutine: Coroutine[Any, Any, Any], task: asyncio.Task[Any]) -> None:
        # A task cancelled before its first step never enters `_run`. An eager task may finish
        # before it is added.
        coroutine.close()
        self.tasks.discard(task)
        self.notify_if_idle()
        retrieve_exception(task)

    def notify_if_idle(self) -> None:
        """Let `close` return if nothing is in progress any more."""
        if self._idle is not None and not self._idle.done() and self._is_idle():
            self._idle.set_result(None)

    def _is_idle(self) -> bool:
        return not (self.running or self.tasks or self.waiting)

    def close(self) -> None:
        """Make every operation raise `SessionClosedError`. Closing twice does no harm.

        Raises:
            RuntimeError: the session belongs to another event loop. Nothing was changed.
        """
        if not self.closed or self.loop is not asyncio.get_running_loop():
            self.check()
            self.closed = True
            for target in [*self.running, *self.alarms.targets()]:
                target.close()

    async def wait_until_idle(self) -> None:
        """Return when all operations of the closed session have ended."""
        loop = asyncio.get_running_loop()
        while not self._is_idle():
            if self._idle is None or self._idle.done():
                self._idle = loop.create_future()
            await asyncio.shield(self._idle)
        self.alarms.stop()


class Sleep(asyncio.Future[None]):
    """Future that an alarm completes."""

    __slots__ = ("_alarms", "alarm")

    def __init__(self, alarms: Alarms, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._alarms = alarms
        self.alarm = 0

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the sleep and its alarm."""
        self._alarms.clear(self)
        return super().cancel(msg)

    def on_alarm(self) -> None:
        """Wake the waiter."""
        if not self.done():
            self.set_result(None)

    def close(self) -> None:
        """Make the waiter raise `SessionClosedError`."""
        self._alarms.clear(self)
        if not self.done():
            self.set_exception(SessionClosedError(_CLOSED_DURING_CALL))


@attrs.define(eq=False)
class Operation:
    """Block of code that a deadline, a timeout or the closing of the session can end.

    The block is a ``with`` statement within one task. If it was ended, `__exit__` raises the reason
    without context: frames of the block may hold a token.
    """

    operations: Operations
    deadline: float = math.inf
    """Moment of the loop's clock at which `DeadlineReached` is raised."""
    expires_at: float = math.inf
    """Moment at which `timeout_error` is raised. `expire_at` changes it."""
    alarm: int = attrs.field(default=0, init=False)
    _reason: Exception | None = attrs.field(default=None, init=False)
    _task: asyncio.Task[Any] | None = attrs.field(default=None, init=False)
    _cancelling: int = attrs.field(default=0, init=False)

    def __enter__(self) -> Self:
        operations = self.operations
        if operations.closed or operations.loop is not asyncio.get_running_loop():
            operations.check()
        self._task = asyncio.current_task()
        self._cancelling = self._task.cancelling()  # type: ignore[union-attr]  # we are in a task
        operations.running.add(self)
        end = min(self.expires_at, self.deadline)
        if end < math.inf:
            operations.alarms.set(self, end)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        operations, task, reason = self.operations, self._task, self._reason
        self._task = None
        operations.running.discard(self)
        operations.alarms.clear(self)
        if operations.closed:
            operations.notify_if_idle()
        if reason is None or task is None:
            return
        # As in asyncio.timeout: a cancellation by the caller has precedence.
        if task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            del error, traceback
            _raise_without_context(reason)

    def expire_at(self, when: float) -> None:
        """End the block with `timeout_error` at ``when``; ``math.inf`` means never."""
        self.expires_at = when
        if self._task is not None:
            if (end := min(when, self.deadline)) < math.inf:
                self.operations.alarms.set(self, end)
            else:
                self.operations.alarms.clear(self)

    def timeout_error(self) -> Exception:
        """Return the exception for a block that took too long."""
        return TimeoutError()

    def on_alarm(self) -> None:
        """End the block, whose timeout or deadline has passed."""
        is_deadline = self.deadline <= self.expires_at
        self._end(DeadlineReached() if is_deadline else self.timeout_error())

    def closed_error(self) -> SessionClosedError:
        """Return the exception for a block during which the session was closed."""
        return SessionClosedError(_CLOSED_DURING_CALL)

    def close(self) -> None:
        """End the block with `closed_error`."""
        self._end(self.closed_error())

    def _end(self, reason: Exception) -> None:
        if self._reason is None and self._task is not None:
            self._reason = reason
            self._task.cancel()


def _raise_without_context(error: Exception) -> None:
    # An exception that is raised while another one is handled keeps that one as its context, and
    # with it all of its frames, ``from None`` or not.
    try:
        raise error
    except BaseException:
        error.__context__ = None
        raise


def retrieve_exception(task: asyncio.Task[Any]) -> None:
    """Keep asyncio from reporting an exception that no caller waits for any more."""
    if not task.cancelled():
        task.exception()
