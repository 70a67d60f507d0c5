"""Operations in flight of one session, so that `close` and timeouts can end them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any, Self, TypeVar

import attrs

from ..errors import SessionClosedError, raise_unchained
from .alarms import Alarms

T = TypeVar("T")

_CLOSED_DURING_CALL = "the JobsSession was closed during this call."


class Operations:
    """Registry of everything in progress in one session, which belongs to one event loop."""

    def __init__(self) -> None:
        self.alarms = Alarms()
        self.running: dict[asyncio.Task[Any], Operation] = {}
        """The innermost operation of each task."""
        self.tasks: set[asyncio.Task[Any]] = set()
        """Tasks of the session. One that is done is removed in the next pass of the loop."""
        self.closed = False
        self.loop: asyncio.AbstractEventLoop | None = None
        self.something_ended = asyncio.Event()
        """Set when an operation or a task of the closed session has ended."""

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the running loop. The first call binds the session to it.

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

    def sleep_until(self, when: float) -> Sleep:
        """Return a future that is done at ``when``. Await it within an operation."""
        self.get_loop()
        sleep = Sleep(self.alarms)
        self.alarms.set(sleep, when)
        return sleep

    def create_task(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine in a task of the session, whose exception need not be retrieved."""
        try:
            loop = self.get_loop()
        except RuntimeError:
            coroutine.close()  # otherwise Python warns that it was never awaited
            raise
        task = loop.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self._end_task)
        return task

    def _end_task(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        self.something_ended.set()
        retrieve_exception(task)

    def close(self) -> None:
        """Make every operation raise `SessionClosedError`. Closing twice does no harm.

        Raises:
            RuntimeError: the session belongs to another event loop. Nothing was changed.
        """
        if not self.closed or self.loop is not asyncio.get_running_loop():
            self.get_loop()
            self.closed = True
            for operation in self.running.values():
                operation.close()

    async def wait_until_idle(self) -> None:
        """Return when all operations of the closed session have ended."""
        while self.running or self.tasks:
            self.something_ended.clear()
            await self.something_ended.wait()
        self.alarms.stop()


class Sleep(asyncio.Future[bool]):
    """Future that an alarm completes. Its result is whether `wake` has ended it early."""

    __slots__ = ("_alarms", "alarm_number")

    def __init__(self, alarms: Alarms) -> None:
        super().__init__()
        self._alarms = alarms
        self.alarm_number = 0

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the sleep and its alarm."""
        self._alarms.clear(self)
        return super().cancel(msg)

    def on_alarm(self) -> None:
        """End the sleep at its time."""
        if not self.done():
            self.set_result(False)

    def wake(self) -> None:
        """End the sleep early, if it has not ended."""
        if not self.done():
            self._alarms.clear(self)
            self.set_result(True)


@attrs.define(eq=False)
class Operation:
    """Block of code that a timeout or the closing of the session can end.

    The block is a ``with`` statement within one task. Blocks can be nested: the session ends the
    innermost block of a task, and the exception of that block then ends the outer ones. When a
    timeout or the session has ended the block, `__exit__` raises the reason without
    ``__context__``: frames of the block may hold a token.
    """

    operations: Operations
    ends_at: float = math.inf
    """Moment of the loop's clock at which `timeout_error` is raised. `end_at` changes it."""
    alarm_number: int = attrs.field(default=0, init=False)
    _reason: Exception | None = attrs.field(default=None, init=False)
    _outer: Operation | None = attrs.field(default=None, init=False)
    _task: asyncio.Task[Any] | None = attrs.field(default=None, init=False)
    _cancelling: int = attrs.field(default=0, init=False)

    def __enter__(self) -> Self:
        operations = self.operations
        if operations.closed or operations.loop is not asyncio.get_running_loop():
            operations.get_loop()
        task = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"  # noqa: S101
        self._task, self._cancelling = task, task.cancelling()
        self._outer = operations.running.get(task)
        operations.running[task] = self
        if self.ends_at < math.inf:
            operations.alarms.set(self, self.ends_at)
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        operations, task, reason = self.operations, self._task, self._reason
        self._reason = None
        assert task is not None, "the block was entered"  # noqa: S101
        if self._outer is None:
            del operations.running[task]
        else:
            operations.running[task] = self._outer
        self._task = self._outer = None
        operations.alarms.clear(self)
        if operations.closed:
            operations.something_ended.set()
        # As in asyncio.timeout: a cancellation by the caller has precedence.
        if (
            reason is not None
            and task.uncancel() <= self._cancelling
            and kind is asyncio.CancelledError
        ):
            # The traceback of the reason will refer to this frame. A local that leads back to the
            # reason would make a cycle: `task`, which will store the reason as its exception, and
            # `details`, whose frames may refer to the task or the reason.
            del details, task
            try:
                raise_unchained(reason)
            finally:
                del reason

    def end_at(self, when: float) -> None:
        """End the block with `timeout_error` at ``when``; ``math.inf`` means never."""
        self.ends_at = when
        if self._task is None:
            return
        if when < math.inf:
            self.operations.alarms.set(self, when)
        else:
            self.operations.alarms.clear(self)

    def timeout_error(self) -> Exception:
        """Return the exception for a block that took too long."""
        return TimeoutError()

    def closed_error(self) -> SessionClosedError:
        """Return the exception for a block during which the session was closed."""
        return SessionClosedError(_CLOSED_DURING_CALL)

    def on_alarm(self) -> None:
        """End the block with `timeout_error`."""
        self._end(self.timeout_error())

    def close(self) -> None:
        """End the block with `closed_error`. If the block is ending already, end the outer one."""
        if self._reason is not None and self._outer is not None:
            self._outer.close()
        else:
            self._end(self.closed_error())

    def _end(self, reason: Exception) -> None:
        if self._reason is None and self._task is not None:
            self._reason = reason
            self._task.cancel()


@attrs.define(eq=False)
class Deadline(Operation):
    """Operation that the timeout of a caller ends."""

    make_error: Callable[[], Exception] = attrs.field(kw_only=True)

    def timeout_error(self) -> Exception:
        """Return the exception that the caller wants."""
        return self.make_error()


def retrieve_exception(task: asyncio.Task[Any]) -> None:
    """Keep asyncio from reporting the exception of a task that has no waiter any more."""
    if not task.cancelled():
        task.exception()
